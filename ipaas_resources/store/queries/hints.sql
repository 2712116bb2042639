-- Deliveries become hints ("read this record"), hints become reads. One row per record: however often it was told, it is
-- read once. The sets carry the whole key, see work.sql for why.

-- name: inbox_take
-- The oldest deliveries that nobody splits now, locked for this transaction, as many as fit together into memory. Locked
-- ones that are not returned are free again with the commit.
WITH picked AS MATERIALIZED (
    SELECT delivery FROM inbox WHERE state = 'due' ORDER BY delivery LIMIT :most FOR UPDATE SKIP LOCKED
), sized AS (
    SELECT i.delivery, sum(octet_length(i.body)) OVER (ORDER BY i.delivery) - octet_length(i.body) AS before
      FROM picked p JOIN inbox i ON i.delivery = p.delivery
)
SELECT i.delivery, i.body, i.headers::text AS headers, i.trace_id, s.system, s.entity, s.scope, y.connector
  FROM sized z
  JOIN inbox i ON i.delivery = z.delivery
  LEFT JOIN subscriptions s ON s.subscription = i.subscription
  LEFT JOIN systems y ON y.system = s.system
 WHERE z.before < :bytes
 ORDER BY i.delivery

-- name: entities_read
-- What active flows read, disabled ones too: their work waits until they are enabled.
SELECT DISTINCT source_system AS system, source_entity AS entity FROM flows WHERE active_version IS NOT NULL

-- name: flows_reading
SELECT flow FROM flows WHERE source_system = :system AND source_entity = :entity AND active_version IS NOT NULL

-- name: inbox_finish
WITH r AS MATERIALIZED (
    SELECT * FROM json_to_recordset(CAST(:rows AS json))
        AS x(delivery bigint, state text, error_code text, error text)
)
UPDATE inbox i SET state = r.state, error_code = r.error_code, error = r.error
  FROM r WHERE i.delivery = r.delivery AND i.state = 'due'

-- name: hints_raise
-- A hint that is being read, or that waits after a failure, keeps its lease and its time; the generation tells the reader
-- that it has to be read again.
INSERT INTO hints AS h (system, entity, scope, record, trace_ids)
SELECT x.system, x.entity, x.scope, x.record, x.trace_ids
  FROM json_to_recordset(CAST(:rows AS json))
    AS x(system text, entity text, scope text, record text, trace_ids text[])
 ORDER BY 1, 2, 3, 4
ON CONFLICT (system, entity, scope, record) DO UPDATE
   SET generation = h.generation + 1, state = 'due',
       attempts = CASE WHEN h.state = 'dead' THEN 0 ELSE h.attempts END,
       due_at = CASE WHEN h.state = 'dead' THEN now() ELSE h.due_at END,
       raised_at = CASE WHEN h.state = 'dead' THEN now() ELSE h.raised_at END,
       error_code = CASE WHEN h.state = 'dead' THEN NULL ELSE h.error_code END,
       error = CASE WHEN h.state = 'dead' THEN NULL ELSE h.error END,
       trace_ids = (h.trace_ids || excluded.trace_ids)
                   [greatest(1, cardinality(h.trace_ids) + cardinality(excluded.trace_ids) - 14):]

-- name: polls_ask
-- These entities are pulled soon, by whoever polls. What was asked for as a full read stays one.
INSERT INTO entity_state AS e (system, scope, entity, poll_due_at, poll_full, poll_reason)
SELECT x.system, x.scope, x.entity, now(), x.whole, x.reason
  FROM json_to_recordset(CAST(:rows AS json)) AS x(system text, scope text, entity text, whole boolean, reason text)
 ORDER BY 1, 2, 3
ON CONFLICT (system, scope, entity) DO UPDATE
   SET poll_due_at = now(), poll_full = e.poll_full OR excluded.poll_full, poll_reason = excluded.poll_reason

-- name: hint_groups
-- What can be read now. Places are found by jumps in the index, and hints counted up to a bound, so that a look at 100,000
-- of them costs what a look at a thousand does (a plain GROUP BY took 100 to 300 ms). Hints of a system whose breaker is
-- open wait as they are: claimed, each would be put back unread.
WITH RECURSIVE places AS (
    (SELECT system, entity, scope FROM hints WHERE state = 'due' ORDER BY system, entity, scope LIMIT 1)
    UNION ALL
    SELECT n.system, n.entity, n.scope
      FROM places p
     CROSS JOIN LATERAL (SELECT h.system, h.entity, h.scope FROM hints h
                          WHERE h.state = 'due' AND (h.system, h.entity, h.scope) > (p.system, p.entity, p.scope)
                          ORDER BY h.system, h.entity, h.scope LIMIT 1) n
)
SELECT p.system, p.entity, p.scope, due.hints, extract(epoch FROM now() - due.raised_at) AS age
  FROM places p
  JOIN systems y ON y.system = p.system
 CROSS JOIN LATERAL (SELECT count(*) AS hints, min(d.raised_at) AS raised_at, min(d.due_at) AS due_at
                       FROM (SELECT h.raised_at, h.due_at FROM hints h
                              WHERE h.system = p.system AND h.entity = p.entity AND h.scope = p.scope
                                AND h.state = 'due' AND h.due_at <= now()
                                AND (h.lease_until IS NULL OR h.lease_until < now())
                              ORDER BY h.due_at LIMIT :counted) d) due
 WHERE due.hints > 0
   AND NOT EXISTS (SELECT 1 FROM breakers b WHERE b.system = p.system AND b.open_until > clock_timestamp())
   AND NOT y.paused AND coalesce((y.document ->> 'enabled')::boolean, true)
   AND (CAST(:system AS text) IS NULL OR p.system = CAST(:system AS text))
   AND (CAST(:entity AS text) IS NULL OR p.entity = CAST(:entity AS text) OR starts_with(p.entity, :unplaced))
 ORDER BY due.due_at

-- name: hints_due_in
-- Seconds until a hint can be read; NULL when none waits.
SELECT extract(epoch FROM min(greatest(h.due_at, coalesce(h.lease_until, h.due_at))) - now()) AS seconds
  FROM hints h JOIN systems y ON y.system = h.system
 WHERE h.state = 'due' AND NOT y.paused AND coalesce((y.document ->> 'enabled')::boolean, true)

-- name: hints_claim
-- A hint whose reader died twice is read alone: it may be the one that kills readers.
WITH token AS (
    SELECT nextval('fencing_tokens') AS token
), usual AS (
    SELECT h.system, h.entity, h.scope, h.record FROM hints h
     WHERE h.system = :system AND h.entity = :entity AND h.scope = :scope AND h.state = 'due' AND h.due_at <= now()
       AND (h.lease_until IS NULL OR h.lease_until < now() AND h.attempts < 2)
     ORDER BY h.due_at LIMIT :batch FOR UPDATE SKIP LOCKED
), alone AS (
    SELECT h.system, h.entity, h.scope, h.record FROM hints h
     WHERE h.system = :system AND h.entity = :entity AND h.scope = :scope AND h.state = 'due' AND h.due_at <= now()
       AND h.lease_until < now() AND h.attempts >= 2
       AND (SELECT true FROM usual LIMIT 1) IS NULL
     ORDER BY h.attempts, h.due_at, h.record LIMIT 1 FOR UPDATE SKIP LOCKED
), picked AS (
    SELECT * FROM usual UNION ALL SELECT * FROM alone
)
UPDATE hints h
   SET lease_token = token.token, lease_until = now() + make_interval(secs => :seconds), attempts = h.attempts + 1
  FROM picked, token
 WHERE h.system = picked.system AND h.entity = picked.entity AND h.scope = picked.scope AND h.record = picked.record
RETURNING h.record, h.generation, h.attempts, h.trace_ids, h.lease_token

-- name: hints_settle
-- What was read is done, unless it was told again since the claim: then it is due at once. A reader whose lease another
-- one took settles nothing.
WITH r AS MATERIALIZED (
    SELECT :system AS system, :entity AS entity, :scope AS scope, x.*
      FROM json_to_recordset(CAST(:rows AS json)) AS x(record text, generation bigint)
), owned AS MATERIALIZED (
    SELECT h.system, h.entity, h.scope, h.record, h.generation, r.generation AS claimed
      FROM r JOIN hints h ON h.system = r.system AND h.entity = r.entity AND h.scope = r.scope AND h.record = r.record
     WHERE h.lease_token = :token
     ORDER BY h.record FOR UPDATE OF h
), gone AS (
    DELETE FROM hints h USING owned o
     WHERE h.system = o.system AND h.entity = o.entity AND h.scope = o.scope AND h.record = o.record
       AND o.generation = o.claimed
    RETURNING 1
), again AS (
    UPDATE hints h
       SET lease_token = NULL, lease_until = NULL, attempts = 0, due_at = now(), error_code = NULL, error = NULL
      FROM owned o
     WHERE h.system = o.system AND h.entity = o.entity AND h.scope = o.scope AND h.record = o.record
       AND o.generation <> o.claimed
    RETURNING 1
)
SELECT (SELECT count(*) FROM gone) AS done, (SELECT count(*) FROM again) AS again

-- name: hints_put_back
-- Not read. `dead`: given up, unless it was told again since the claim; then it starts anew.
WITH r AS MATERIALIZED (
    SELECT :system AS system, :entity AS entity, :scope AS scope, x.*
      FROM json_to_recordset(CAST(:rows AS json))
        AS x(record text, generation bigint, due_in double precision, charge boolean, dead boolean,
             error_code text, error text)
), owned AS MATERIALIZED (
    SELECT h.system, h.entity, h.scope, h.record, r.due_in, r.charge, r.error_code, r.error,
           r.dead AND h.generation = r.generation AS dead, r.dead AND h.generation <> r.generation AS anew
      FROM r JOIN hints h ON h.system = r.system AND h.entity = r.entity AND h.scope = r.scope AND h.record = r.record
     WHERE h.lease_token = :token
     ORDER BY h.record FOR UPDATE OF h
), put AS (
    UPDATE hints h
       SET lease_token = NULL, lease_until = NULL, state = CASE WHEN o.dead THEN 'dead' ELSE 'due' END,
           attempts = CASE WHEN o.anew THEN 0 WHEN o.charge THEN h.attempts ELSE h.attempts - 1 END,
           due_at = now() + make_interval(secs => o.due_in), error_code = o.error_code, error = o.error
      FROM owned o
     WHERE h.system = o.system AND h.entity = o.entity AND h.scope = o.scope AND h.record = o.record
    RETURNING o.dead
)
SELECT count(*) FILTER (WHERE dead) AS dead, count(*) FILTER (WHERE NOT dead) AS due FROM put

-- name: hints_unplaced
-- Nobody knows the table or the company they name: one dead row stands for all of them.
WITH gone AS (
    DELETE FROM hints h
     WHERE h.system = :system AND h.entity = :entity AND h.scope = :scope AND h.record <> :mark
       AND (h.lease_token = :token OR h.lease_until IS NULL)
    RETURNING trace_ids
), told AS (
    INSERT INTO hints AS h (system, entity, scope, record, state, trace_ids, error_code, error)
    SELECT :system, :entity, :scope, :mark, 'dead',
           coalesce((SELECT g.trace_ids FROM gone g ORDER BY g.trace_ids LIMIT 1), '{}'), :error_code, :error
    ON CONFLICT (system, entity, scope, record) DO UPDATE
       SET state = 'dead', raised_at = now(), trace_ids = excluded.trace_ids, error_code = excluded.error_code,
           error = excluded.error
    RETURNING 1
)
SELECT (SELECT count(*) FROM gone) AS many, (SELECT count(*) FROM told) AS told

-- name: places_unknown
-- Which of these places nobody knew a short time ago.
WITH p AS MATERIALIZED (
    SELECT :mark AS record, x.* FROM json_to_recordset(CAST(:rows AS json)) AS x(system text, entity text, scope text)
)
SELECT h.system, h.entity, h.scope
  FROM p JOIN hints h ON h.system = p.system AND h.entity = p.entity AND h.scope = p.scope AND h.record = p.record
 WHERE h.state = 'dead' AND h.raised_at > now() - make_interval(secs => :seconds)

-- name: retire_inbox
-- Deliveries that were dealt with; those that wait stay, however old.
WITH gone AS (
    DELETE FROM inbox WHERE delivery IN (
        SELECT delivery FROM inbox
         WHERE state <> 'due' AND received_at < now() - make_interval(days => :days)
         ORDER BY delivery LIMIT :chunk)
    RETURNING 1
)
SELECT count(*) AS many FROM gone

-- name: retire_inbox_keys
WITH old AS MATERIALIZED (
    SELECT subscription, key FROM inbox_keys
     WHERE received_at < now() - make_interval(days => :days) LIMIT :chunk
), gone AS (
    DELETE FROM inbox_keys k USING old o WHERE k.subscription = o.subscription AND k.key = o.key
    RETURNING 1
)
SELECT count(*) AS many FROM gone
