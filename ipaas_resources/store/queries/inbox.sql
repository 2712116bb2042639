-- name: inbox_put
-- One group of deliveries, no key twice in it. Returns the numbers (counted from 1) of those that are new; the keys go in
-- their order, so that two writers that share some cannot wait for each other. NOTIFY takes a lock until the commit is
-- done, so there is one for the whole group, and none for a group of repeats.
WITH given AS MATERIALIZED (
    SELECT *
      FROM unnest(CAST(:subscriptions AS text[]), CAST(:keys AS bytea[]), CAST(:bodies AS bytea[]),
                  CAST(:headers AS text[]), CAST(:trace_ids AS text[]))
           WITH ORDINALITY AS g (subscription, key, body, headers, trace_id, number)
), fresh AS (
    INSERT INTO inbox_keys (subscription, key)
    SELECT subscription, key FROM given WHERE key IS NOT NULL ORDER BY subscription, key
    ON CONFLICT DO NOTHING
    RETURNING subscription, key
), kept AS MATERIALIZED (
    SELECT g.*
      FROM given g LEFT JOIN fresh f ON f.subscription = g.subscription AND f.key = g.key
     WHERE g.key IS NULL OR f.key IS NOT NULL
), stored AS (
    INSERT INTO inbox (subscription, body, headers, trace_id)
    SELECT subscription, body, CAST(headers AS jsonb), trace_id FROM kept ORDER BY number
), told AS MATERIALIZED (
    SELECT pg_notify('ipaas_inbox', '') AS notified FROM kept LIMIT 1
)
SELECT kept.number, told.notified FROM kept CROSS JOIN told
