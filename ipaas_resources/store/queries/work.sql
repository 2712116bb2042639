-- How these are written, and why: a key's leading columns never stand as constants beside a set that is joined by the
-- rest of the key. On tables without fresh statistics (a first load) the planner takes such a prefix for one row and
-- scans all of it once per record: a claim of 1,000 items took 9 s that way. Here the set carries the whole key.

-- name: intents_recover
-- A worker died between its intent and its settlement: what it sent may have arrived, or may still arrive. Every record
-- of the intent is looked at in the target, also one that another worker has taken over or settled meanwhile, for a late
-- write may have crossed its write; writes that could still arrive late are looked at when the target must have
-- finished: the dead worker may have sent its last request as late as its lease allowed. Nothing of the flow target is
-- claimed before this was done (`claim`), so that an expired lease is never claimed without knowing its intent.
WITH lost AS (
    UPDATE intents SET state = 'unknown', closed_at = now()
     WHERE state = 'open' AND lease_until < now() AND flow = :flow AND target = :target
    RETURNING intent, flow, target, lease_token, lease_until, writes
)
INSERT INTO work_items AS w (flow, target, scope, record, target_system, target_entity, lane, verify_target, intent,
                             due_at, trace_ids)
SELECT lost.flow, lost.target, x ->> 0, x ->> 1, :target_system, :target_entity, 2, true, max(lost.intent),
       max(CASE WHEN (x ->> 5)::boolean THEN lost.lease_until + make_interval(secs => :wait) ELSE now() END),
       ARRAY[CAST(:trace_id AS text)]
  FROM lost CROSS JOIN LATERAL jsonb_array_elements(lost.writes) AS x
 -- A record that stands in two of them is one row: a second one would make this statement fail, and every claim with it.
 GROUP BY 1, 2, 3, 4
 ORDER BY 1, 2, 3, 4
ON CONFLICT (flow, target, scope, record) DO UPDATE
   SET verify_target = true, intent = excluded.intent, generation = w.generation + 1,
       due_at = greatest(w.due_at, excluded.due_at),
       lease_token = CASE WHEN w.lease_until < now() THEN NULL ELSE w.lease_token END,
       lease_until = CASE WHEN w.lease_until < now() THEN NULL ELSE w.lease_until END
RETURNING 1

-- name: intents_resolve
UPDATE intents i SET state = 'resolved', closed_at = now()
 WHERE state = 'unknown' AND flow = :flow AND target = :target
   AND NOT EXISTS (SELECT 1 FROM work_items w WHERE w.flow = i.flow AND w.target = i.target AND w.intent = i.intent)

-- name: claim
-- Changes no indexed column. An item whose lease expired twice is claimed alone: it may be the one that kills workers.
-- A target that refers to another target of the same record waits for that one. Lane null: every lane, the most urgent
-- first. While a worker's intent has lapsed and nobody has looked (`intents_recover`), nothing of the target is claimed.
WITH token AS (
    SELECT nextval('fencing_tokens') AS token
), lost AS MATERIALIZED (
    SELECT 1 FROM intents WHERE state = 'open' AND lease_until < now() AND flow = :flow AND target = :target LIMIT 1
), usual AS (
    SELECT w.flow, w.target, w.scope, w.record FROM work_items w
     WHERE w.flow = :flow AND w.target = :target AND w.state IN ('due', 'parked') AND w.due_at <= now()
       AND (CAST(:lane AS smallint) IS NULL OR w.lane = CAST(:lane AS smallint))
       AND (w.lease_until IS NULL OR w.lease_until < now())
       AND w.lease_expiries < 2
       AND NOT EXISTS (SELECT 1 FROM lost)
       AND (SELECT true FROM work_items p
             WHERE p.flow = w.flow AND p.target = ANY(CAST(:parents AS text[])) AND p.scope = w.scope
               AND p.record = w.record AND p.state = 'due' LIMIT 1) IS NULL
     ORDER BY w.lane, w.due_at
     LIMIT :batch FOR UPDATE SKIP LOCKED
), alone AS (
    SELECT w.flow, w.target, w.scope, w.record FROM work_items w
     WHERE w.flow = :flow AND w.target = :target AND w.state IN ('due', 'parked') AND w.due_at <= now()
       AND (CAST(:lane AS smallint) IS NULL OR w.lane = CAST(:lane AS smallint))
       AND (w.lease_until IS NULL OR w.lease_until < now())
       AND w.lease_expiries >= 2
       AND NOT EXISTS (SELECT 1 FROM lost)
       AND (SELECT true FROM work_items p
             WHERE p.flow = w.flow AND p.target = ANY(CAST(:parents AS text[])) AND p.scope = w.scope
               AND p.record = w.record AND p.state = 'due' LIMIT 1) IS NULL
       AND (SELECT true FROM usual LIMIT 1) IS NULL
     ORDER BY w.lane, w.due_at
     LIMIT 1 FOR UPDATE SKIP LOCKED
), picked AS (
    SELECT * FROM usual UNION ALL SELECT * FROM alone
)
UPDATE work_items w
   SET lease_token = token.token, lease_until = now() + make_interval(secs => :seconds),
       attempts = w.attempts + 1,
       lease_expiries = w.lease_expiries + CASE WHEN w.lease_until IS NULL THEN 0 ELSE 1 END
  FROM picked, token
 WHERE w.flow = picked.flow AND w.target = picked.target AND w.scope = picked.scope AND w.record = picked.record
RETURNING w.scope, w.record, w.generation, w.attempts, w.verify_target, w.intent,
          w.trace_ids[cardinality(w.trace_ids)] AS trace_id, w.lease_token, w.lease_until,
          EXISTS (SELECT 1 FROM alone) AS alone

-- name: due_targets
-- Which of these flow targets have an item of the lane that can be claimed now. One look into the index for each: a queue
-- of a million items that are not due, or of another lane, costs nothing. What waits for a parent cannot be claimed: were
-- it told as due, workers would start in vain again and again.
SELECT t.n
  FROM json_to_recordset(CAST(:targets AS json)) AS t(n integer, flow text, target text, parents text[])
 WHERE EXISTS (SELECT 1 FROM work_items w
                WHERE w.flow = t.flow AND w.target = t.target AND w.lane = :lane AND w.state IN ('due', 'parked')
                  AND w.due_at <= now() AND (w.lease_until IS NULL OR w.lease_until < now())
                  AND (SELECT true FROM work_items p
                        WHERE p.flow = w.flow AND p.target = ANY(t.parents) AND p.scope = w.scope
                          AND p.record = w.record AND p.state = 'due' LIMIT 1) IS NULL)
 ORDER BY t.n

-- name: intents_resolve_all
-- Of whatever flow: what every record of an unknown intent was looked up for is no question any more.
UPDATE intents i SET state = 'resolved', closed_at = now()
 WHERE state = 'unknown'
   AND NOT EXISTS (SELECT 1 FROM work_items w WHERE w.flow = i.flow AND w.target = i.target AND w.intent = i.intent)

-- name: claimed_documents
-- A second statement on purpose: it sees every change that had raised the claimed generations.
WITH i AS MATERIALIZED (
    SELECT :system AS system, :entity AS entity, :flow AS flow, :target AS target, x.*
      FROM json_to_recordset(CAST(:items AS json)) AS x(n integer, scope text, record text)
)
SELECT m.document::text AS document, m.deleted, m.bad_code, m.bad_error, l.state, l.target_scope, l.target_id, l.target_key,
       l.sent::text AS sent, l.read_back::text AS read_back, l.lines::text AS lines, l.progress::text AS progress, l.etag
  FROM i
  LEFT JOIN mirror m ON m.system = i.system AND m.entity = i.entity AND m.scope = i.scope AND m.record = i.record
  LEFT JOIN links l ON l.flow = i.flow AND l.target = i.target AND l.scope = i.scope AND l.record = i.record
 ORDER BY i.n

-- name: flow_lock_shared
-- `switching`: writes of the version before are under way; those of this one wait until they are settled or lapsed. Who
-- works with this version read it after the switch was committed, so it sees every intent that came before the switch.
SELECT f.active_version, f.enabled,
       EXISTS (SELECT 1 FROM intents i WHERE i.state = 'open' AND i.flow = f.flow AND i.flow_version <> :version
                  AND i.lease_until > now()) AS switching
  FROM flows f WHERE f.flow = :flow FOR SHARE OF f

-- name: older_intents
-- Writes of another version than this one that are under way, and when the last of them lapses at the latest.
SELECT count(*) AS intents, coalesce(extract(epoch FROM max(lease_until) - now()), 0) AS seconds
  FROM intents WHERE state = 'open' AND flow = :flow AND flow_version <> :version AND lease_until > now()

-- name: links_reserve
-- A record that does not get its row goes to a person before anything is sent: nothing later can fail for one record.
WITH wanted AS (
    SELECT * FROM json_to_recordset(CAST(:rows AS json))
        AS r(scope text, record text, target_scope text, target_id text, target_key text)
), inserted AS (
    INSERT INTO links (flow, target, scope, record, state, target_scope, target_id, target_key, flow_version)
    SELECT :flow, :target, scope, record, 'reserved', target_scope, target_id, target_key, :version
      FROM wanted ORDER BY scope, record
    ON CONFLICT DO NOTHING
    RETURNING scope, record
)
SELECT scope, record FROM inserted

-- name: links_rereserve
-- A row of an earlier attempt, or of a target record that was deleted: it is ours already; it takes the new target.
WITH given AS (
    SELECT :flow AS flow, :target AS target, x.* FROM json_to_recordset(CAST(:rows AS json))
        AS x(scope text, record text, target_scope text, target_id text, target_key text)
), by_key AS (
    -- Two records of one batch that want the same target: the first gets it, the other goes to a person.
    SELECT DISTINCT ON (target_scope, coalesce(target_key, scope || chr(31) || record)) * FROM given
     ORDER BY target_scope, coalesce(target_key, scope || chr(31) || record), scope, record
), r AS MATERIALIZED (
    SELECT DISTINCT ON (target_scope, coalesce(target_id, scope || chr(31) || record)) * FROM by_key
     ORDER BY target_scope, coalesce(target_id, scope || chr(31) || record), scope, record
)
UPDATE links l
   SET state = 'reserved', target_scope = r.target_scope, target_id = r.target_id, target_key = r.target_key,
       etag = NULL, updated_at = now()
  FROM r
 WHERE l.flow = r.flow AND l.target = r.target AND l.scope = r.scope AND l.record = r.record
   AND l.state IN ('reserved', 'deleted')
   AND (SELECT true FROM links o
         WHERE o.flow = r.flow AND o.target = r.target AND o.target_scope = r.target_scope
           AND o.target_id = r.target_id
           AND (o.scope, o.record) <> (r.scope, r.record) LIMIT 1) IS NULL
   AND (SELECT true FROM links o
         WHERE o.flow = r.flow AND o.target = r.target AND o.target_scope = r.target_scope
           AND o.target_key = r.target_key
           AND (o.scope, o.record) <> (r.scope, r.record) LIMIT 1) IS NULL
RETURNING l.scope, l.record

-- name: intent_open
-- The intent lapses at the same moment as its items: with a later one, an item could be claimed again before anybody
-- knew that it may have been sent.
INSERT INTO intents (flow, target, flow_version, lease_token, lease_until, writes)
VALUES (:flow, :target, :version, :token, :lease_until, CAST(:writes AS jsonb))
RETURNING intent

-- name: lease_extend
-- Items and their open intent together, for they lapse together.
WITH i AS MATERIALIZED (
    SELECT :flow AS flow, :target AS target, x.*
      FROM json_to_recordset(CAST(:items AS json)) AS x(scope text, record text)
), extended AS (
    UPDATE work_items w SET lease_until = now() + make_interval(secs => :seconds)
      FROM i
     WHERE w.flow = i.flow AND w.target = i.target AND w.scope = i.scope AND w.record = i.record
       AND w.lease_token = :token
    RETURNING 1
), intended AS (
    UPDATE intents SET lease_until = now() + make_interval(secs => :seconds)
     WHERE state = 'open' AND lease_token = :token
    RETURNING 1
)
SELECT count(*) AS items FROM extended

-- name: settle
-- One transaction, one statement: link, sync event, item. Never reads the mirror (a join on it deleted items that had
-- just been raised). `owned` locks in key order and holds the newest generation; every other part goes by it.
WITH r AS (
    SELECT :flow AS flow, :target AS target, x.* FROM json_to_recordset(CAST(:rows AS json)) AS x(
        scope text, record text, generation bigint, done boolean, state text, due_in double precision,
        verify boolean, intent bigint, waits_for text, waits_key text, wait_began boolean, charge boolean,
        link text, target_scope text, target_id text, forget_key boolean, sent jsonb, read_back jsonb, lines jsonb,
        progress jsonb, etag text,
        outcome text, changes jsonb, error_code text, error text)
), owned AS (
    SELECT w.flow, w.target, w.scope, w.record, w.generation, w.trace_ids
      FROM work_items w
      JOIN r ON r.flow = w.flow AND r.target = w.target AND r.scope = w.scope AND r.record = w.record
     WHERE w.lease_token = :token
     ORDER BY w.scope, w.record FOR UPDATE OF w
), gone AS (
    DELETE FROM work_items w USING owned o, r
     WHERE w.flow = o.flow AND w.target = o.target AND w.scope = o.scope AND w.record = o.record
       AND r.scope = o.scope AND r.record = o.record AND r.done AND o.generation = r.generation
    RETURNING 1
), kept AS (
    UPDATE work_items w
       SET lease_token = NULL, lease_until = NULL, lease_expiries = 0,
           state = CASE WHEN o.generation <> r.generation THEN 'due' ELSE coalesce(r.state, 'due') END,
           due_at = CASE WHEN o.generation <> r.generation AND r.intent IS NULL THEN greatest(w.due_at, now())
                         ELSE now() + make_interval(secs => coalesce(r.due_in, 0)) END,
           attempts = CASE WHEN o.generation <> r.generation THEN 0
                           WHEN r.charge THEN w.attempts ELSE w.attempts - 1 END,
           -- What was asked while we worked stays asked.
           verify_target = coalesce(r.verify, false) OR (o.generation <> r.generation AND w.verify_target),
           intent = coalesce(r.intent, CASE WHEN o.generation <> r.generation THEN w.intent END),
           -- What a record waits for, and since when, outlives an attempt that failed before it could be looked for.
           waits_for = CASE WHEN x.again THEN w.waits_for ELSE r.waits_for END,
           waits_key = CASE WHEN x.again THEN w.waits_key ELSE r.waits_key END,
           parked_since = CASE WHEN x.again THEN w.parked_since WHEN r.waits_for IS NULL THEN NULL
                               WHEN r.wait_began THEN now() ELSE coalesce(w.parked_since, now()) END,
           -- What was raised before is settled; what is left was raised while we worked.
           raised_at = CASE WHEN r.done THEN now() ELSE w.raised_at END,
           error_code = r.error_code, error = r.error
      FROM owned o JOIN r ON r.scope = o.scope AND r.record = o.record
     CROSS JOIN LATERAL (SELECT r.waits_for IS NULL AND NOT r.done AND coalesce(r.state, 'due') = 'due' AS again) x
     WHERE w.flow = o.flow AND w.target = o.target AND w.scope = o.scope AND w.record = o.record
       AND (NOT r.done OR o.generation <> r.generation)
    RETURNING w.state IN ('due', 'parked') AND w.due_at <= now() AS due
), linked AS (
    UPDATE links l
       SET state = r.link, target_scope = coalesce(r.target_scope, l.target_scope),
           target_id = CASE WHEN r.link = 'deleted' THEN NULL ELSE coalesce(r.target_id, l.target_id) END,
           target_key = CASE WHEN r.forget_key OR r.link = 'deleted' THEN NULL ELSE l.target_key END,
           sent = coalesce(r.sent, l.sent), read_back = r.read_back, lines = coalesce(r.lines, l.lines),
           progress = r.progress, etag = r.etag, flow_version = :version, updated_at = now()
      FROM owned o JOIN r ON r.scope = o.scope AND r.record = o.record
     WHERE l.flow = o.flow AND l.target = o.target AND l.scope = o.scope AND l.record = o.record AND r.link IS NOT NULL
    RETURNING 1
), fenced AS (
    -- Another worker holds the item, or settled it: what we wrote may have crossed its write. The target is read first.
    INSERT INTO work_items AS w (flow, target, scope, record, target_system, target_entity, lane, verify_target, trace_ids)
    SELECT :flow, :target, r.scope, r.record, :target_system, :target_entity, 2, true, ARRAY[:trace_id]
      FROM r WHERE NOT EXISTS (SELECT 1 FROM owned o WHERE o.scope = r.scope AND o.record = r.record)
     ORDER BY r.scope, r.record
    ON CONFLICT (flow, target, scope, record) DO UPDATE SET generation = w.generation + 1, verify_target = true
    RETURNING 1
), told AS (
    INSERT INTO sync_events (flow, target, scope, record, outcome, flow_version, target_id, intent, run, trace_ids,
                             changes, error_code, error)
    SELECT :flow, :target, r.scope, r.record, r.outcome, :version, r.target_id, CAST(:intent AS bigint), CAST(:run AS bigint), o.trace_ids, r.changes,
           r.error_code, r.error
      FROM owned o JOIN r ON r.scope = o.scope AND r.record = o.record
     WHERE r.outcome IS NOT NULL
    RETURNING 1
), reported AS (
    -- What the reporter tells Dagster: work without a run, for a run tells of itself. In this transaction, so that nothing
    -- that happened stays untold. No NOTIFY: it would serialise the commits of all settlements.
    INSERT INTO report_due (flow, target, flow_version, counts, trace_id)
    SELECT :flow, :target, :version, jsonb_object_agg(c.outcome, c.items), coalesce(max(c.trace_id), :trace_id)
      FROM (SELECT r.outcome, count(*) AS items, max(o.trace_ids[cardinality(o.trace_ids)]) AS trace_id
              FROM owned o JOIN r ON r.scope = o.scope AND r.record = o.record
             WHERE r.outcome IS NOT NULL GROUP BY r.outcome) c
     WHERE CAST(:run AS bigint) IS NULL
    HAVING bool_or(c.outcome NOT IN ('no_change', 'retry'))
    RETURNING 1
), closed AS (
    UPDATE intents SET state = :intent_state, closed_at = now() WHERE intent = CAST(:intent AS bigint) AND state = 'open'
    RETURNING 1
)
SELECT (SELECT count(*) FROM fenced) AS fenced, (SELECT count(*) FROM kept WHERE due) AS due,
       CASE WHEN EXISTS (SELECT 1 FROM fenced)
            THEN coalesce((SELECT array_agg(scope || chr(31) || record) FROM owned), '{}') END AS owned

-- name: wake_waiting
-- Links of a flow target were made: what waits for exactly those is due, also where a person was asked meanwhile. An
-- item that is being worked on had perhaps looked before the link was there: its new generation makes it due again.
-- Items of a version of ours that did not say which link they wait for are woken by any.
WITH k AS MATERIALIZED (
    SELECT :link AS link, x.key FROM json_array_elements_text(CAST(:keys AS json)) AS x(key)
), waiting AS (
    SELECT w.flow, w.target, w.scope, w.record FROM k JOIN work_items w ON w.waits_for = k.link AND w.waits_key = k.key
    UNION
    SELECT w.flow, w.target, w.scope, w.record FROM work_items w WHERE w.waits_for = :link AND w.waits_key IS NULL
), picked AS MATERIALIZED (
    SELECT w.flow, w.target, w.scope, w.record
      FROM waiting p
      JOIN work_items w ON w.flow = p.flow AND w.target = p.target AND w.scope = p.scope AND w.record = p.record
     WHERE w.state = 'parked' AND (w.due_at > now() OR w.lease_token IS NOT NULL)
        OR w.state = 'review' AND w.error_code = 'reference_missing'
     ORDER BY w.flow, w.target, w.scope, w.record FOR UPDATE OF w
), lifted AS (
    UPDATE work_items w
       SET due_at = least(w.due_at, now()), state = 'parked',
           generation = w.generation + CASE WHEN w.lease_token IS NULL THEN 0 ELSE 1 END
      FROM picked p
     WHERE w.flow = p.flow AND w.target = p.target AND w.scope = p.scope AND w.record = p.record
    RETURNING 1
), woken AS MATERIALIZED (
    SELECT pg_notify('ipaas_work', '') FROM lifted LIMIT 1
)
SELECT (SELECT count(*) FROM lifted) AS items, (SELECT count(*) FROM woken) AS woken

-- name: parked_items
-- Since when these items wait, and for which link.
WITH i AS MATERIALIZED (
    SELECT :flow AS flow, :target AS target, x.*
      FROM json_to_recordset(CAST(:items AS json)) AS x(scope text, record text)
)
SELECT w.scope, w.record, w.waits_for, w.waits_key, w.parked_since, now() AS moment
  FROM i JOIN work_items w ON w.flow = i.flow AND w.target = i.target AND w.scope = i.scope AND w.record = i.record
 WHERE w.parked_since IS NOT NULL

-- name: lanes_lower
-- Work of a flow that waits in a lane above the highest that its active version may take.
WITH picked AS MATERIALIZED (
    SELECT flow, target, scope, record FROM work_items WHERE flow = :flow AND lane < :lane
     ORDER BY flow, target, scope, record FOR UPDATE
)
UPDATE work_items w SET lane = :lane FROM picked p
 WHERE w.flow = p.flow AND w.target = p.target AND w.scope = p.scope AND w.record = p.record

-- name: queue_state
SELECT target, state, count(*) AS items, min(due_at) FILTER (WHERE state IN ('due', 'parked')) AS next_due,
       count(*) FILTER (WHERE state IN ('due', 'parked') AND due_at <= now() + make_interval(secs => :horizon)
                          AND (lease_until IS NULL OR lease_until < now() + make_interval(secs => :horizon))) AS soon
  FROM work_items WHERE flow = :flow GROUP BY target, state

-- name: queue_reasons
SELECT state, error, count(*) AS items FROM work_items
 WHERE flow = :flow AND error IS NOT NULL GROUP BY state, error ORDER BY items DESC, error LIMIT :most

-- name: queue_held
SELECT count(*) AS items, extract(epoch FROM max(lease_until) - now()) AS seconds
  FROM work_items WHERE flow = :flow AND lease_until > now()

-- name: due_in
-- Seconds until an item of a flow target can be claimed; NULL when none waits. An item whose parent target is still at
-- work comes when that one is done. A parked item is waited for only once its link has woken it.
SELECT extract(epoch FROM min(greatest(w.due_at, coalesce(w.lease_until, w.due_at))) - now())
  FROM work_items w
 WHERE w.flow = :flow AND w.target = ANY(array_append(CAST(:parents AS text[]), CAST(:target AS text)))
   AND (w.state = 'due' OR w.state = 'parked' AND w.due_at <= now())

-- name: links_by_record
WITH k AS MATERIALIZED (
    SELECT :flow AS flow, :target AS target, x.*
      FROM json_to_recordset(CAST(:keys AS json)) AS x(scope text, id text)
)
SELECT l.scope, l.record, l.target_scope, l.target_id
  FROM k JOIN links l ON l.flow = k.flow AND l.target = k.target AND l.scope = k.scope AND l.record = k.id
 WHERE l.state = 'linked' AND l.target_id IS NOT NULL

-- name: links_by_target
WITH k AS MATERIALIZED (
    SELECT :flow AS flow, :target AS target, x.*
      FROM json_to_recordset(CAST(:keys AS json)) AS x(scope text, id text)
)
SELECT l.target_scope AS scope, l.target_id AS record, l.scope AS target_scope, l.record AS target_id
  FROM k JOIN links l ON l.flow = k.flow AND l.target = k.target AND l.target_scope = k.scope AND l.target_id = k.id
 WHERE l.state = 'linked'

-- name: links_by_record_field
WITH k AS MATERIALIZED (
    SELECT DISTINCT :flow AS flow, :target AS target, :system AS system, :entity AS entity, x.*
      FROM json_to_recordset(CAST(:keys AS json)) AS x(scope text, id text)
)
SELECT k.scope, k.id AS record, l.target_scope, l.target_id
  FROM k
  JOIN mirror m ON m.system = k.system AND m.entity = k.entity AND m.scope = k.scope
               AND m.document ->> CAST(:field AS text) = k.id AND NOT m.deleted
  JOIN links l ON l.flow = k.flow AND l.target = k.target AND l.scope = m.scope AND l.record = m.record
 WHERE l.state = 'linked' AND l.target_id IS NOT NULL

-- name: links_by_target_field
WITH k AS MATERIALIZED (
    SELECT DISTINCT :flow AS flow, :target AS target, x.*
      FROM json_to_recordset(CAST(:keys AS json)) AS x(scope text, id text)
)
SELECT k.scope, k.id AS record, l.scope AS target_scope, l.record AS target_id
  FROM k
  JOIN links l ON l.flow = k.flow AND l.target = k.target AND l.target_scope = k.scope
              AND l.sent ->> CAST(:field AS text) = k.id
 WHERE l.state = 'linked'

-- name: target_keys_add
INSERT INTO scan_keys (scan, record, key)
SELECT :scan, r.id, r.key FROM json_to_recordset(CAST(:rows AS json)) AS r(id text, key text)

-- name: target_keys_find
WITH w AS MATERIALIZED (
    SELECT CAST(:scan AS bigint) AS scan, x.* FROM json_to_recordset(CAST(:rows AS json)) AS x(n integer, key text)
)
SELECT w.n, k.record FROM w JOIN scan_keys k ON k.scan = w.scan AND k.key = w.key
