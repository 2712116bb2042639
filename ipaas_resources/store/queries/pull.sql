-- name: entity_state_ensure
INSERT INTO entity_state (system, scope, entity) VALUES (:system, :scope, :entity) ON CONFLICT DO NOTHING

-- name: entity_lease_take
-- One pull of an entity at a time: the lease is free or expired, or nobody gets it.
UPDATE entity_state
   SET lease_token = nextval('fencing_tokens'), lease_until = now() + make_interval(secs => :seconds)
 WHERE system = :system AND scope = :scope AND entity = :entity
   AND (lease_until IS NULL OR lease_until < now())
RETURNING lease_token, cursor::text AS cursor, scan_number, scan_full,
          last_complete_at IS NULL AND cursor IS NULL AS first_scan

-- name: entity_lease_drop
UPDATE entity_state SET lease_token = NULL, lease_until = NULL, last_error = :error
 WHERE system = :system AND scope = :scope AND entity = :entity AND lease_token = :token

-- name: scan_begin
UPDATE entity_state
   SET scan_number = nextval('read_numbers'), scan_full = :full,
       cursor = CASE WHEN :full THEN NULL ELSE cursor END
 WHERE system = :system AND scope = :scope AND entity = :entity AND lease_token = :token
RETURNING scan_number

-- name: read_number_next
SELECT nextval('read_numbers')

-- name: mirror_changed
-- Which of these rows are news: unknown, of another content, or back from the dead. An ordered version that is newer
-- although the content is the same counts too, or an older read could replace it later.
-- The rows carry the whole key, see work.sql for why.
WITH r AS MATERIALIZED (
    SELECT :system AS system, :entity AS entity, :scope AS scope, x.*
      FROM json_to_recordset(CAST(:rows AS json)) AS x(id text, hash uuid, ord bigint)
)
SELECT r.id
  FROM r
  LEFT JOIN mirror m ON m.system = r.system AND m.entity = r.entity AND m.scope = r.scope AND m.record = r.id
 WHERE m.record IS NULL OR m.hash <> r.hash OR m.deleted OR (:ordered AND m.ordering < r.ord)

-- name: page_store
-- One page: the mirror and the work it raises, as one statement. Rows stand once per id (the puller reduces a page).
-- A lower version never replaces a higher one, tombstones included. A row may name the trace ids that led to it, the
-- newest last; else it has the page's.
WITH incoming AS MATERIALIZED (
    SELECT :system AS system, :entity AS entity, :scope AS scope, x.*,
           coalesce(x.traces, ARRAY[CAST(:trace_id AS text)]) AS trace_ids
      FROM json_to_recordset(CAST(:rows AS json))
        AS x(id text, doc jsonb, hash uuid, etag text, ord bigint, bad_code text, bad_error text, traces text[])
), before AS (
    SELECT m.record, m.hash, m.deleted
      FROM incoming i
      JOIN mirror m ON m.system = i.system AND m.entity = i.entity AND m.scope = i.scope AND m.record = i.id
), stored AS (
    INSERT INTO mirror AS m (system, entity, scope, record, document, hash, etag, ordering, read_number, trace_id,
                             bad_code, bad_error)
    SELECT :system, :entity, :scope, id, doc, hash, etag, ord, :read_number, trace_ids[cardinality(trace_ids)],
           bad_code, bad_error
      FROM incoming ORDER BY id
    ON CONFLICT (system, entity, scope, record) DO UPDATE
       -- A record that could not be read keeps its last good document: an empty one would null or delete its target.
       SET document = CASE WHEN excluded.bad_code IS NOT NULL AND excluded.document = '{}' THEN m.document
                           ELSE excluded.document END,
           bad_code = excluded.bad_code, bad_error = excluded.bad_error,
           hash = excluded.hash, etag = excluded.etag, ordering = excluded.ordering,
           read_number = excluded.read_number, trace_id = excluded.trace_id, deleted = false,
           changed_at = CASE WHEN m.hash <> excluded.hash OR m.deleted THEN now() ELSE m.changed_at END
     WHERE m.ordering <= excluded.ordering
    RETURNING record, hash
), news AS (
    SELECT s.record FROM stored s LEFT JOIN before b ON b.record = s.record
     WHERE b.record IS NULL OR b.hash <> s.hash OR b.deleted
), raised AS (
    INSERT INTO work_items AS w (flow, target, scope, record, target_system, target_entity, lane, state, trace_ids,
                                 error_code, error)
    SELECT t.flow, t.target, :scope, n.record, t.target_system, t.target_entity, greatest(:lane, t.lane),
           CASE WHEN i.bad_code IS NULL THEN 'due' ELSE 'dead' END, i.trace_ids, i.bad_code, i.bad_error
      FROM news n JOIN incoming i ON i.id = n.record
     CROSS JOIN json_to_recordset(CAST(:targets AS json))
                AS t(flow text, target text, target_system text, target_entity text, lane smallint)
     ORDER BY 1, 2, 3, 4
    ON CONFLICT (flow, target, scope, record) DO UPDATE
       SET generation = w.generation + 1, state = excluded.state,
           -- A more urgent event lifts what waits; what gave up waits no more and takes the lane of the event.
           lane = CASE WHEN w.state IN ('dead', 'review') THEN excluded.lane ELSE least(w.lane, excluded.lane) END,
           attempts = CASE WHEN w.state IN ('dead', 'review') THEN 0 ELSE w.attempts END,
           raised_at = CASE WHEN w.state IN ('dead', 'review') THEN now() ELSE w.raised_at END,
           due_at = CASE WHEN w.intent IS NULL THEN now() ELSE w.due_at END,
           error_code = excluded.error_code, error = excluded.error,
           trace_ids = (w.trace_ids || excluded.trace_ids)
                       [greatest(1, cardinality(w.trace_ids) + cardinality(excluded.trace_ids) - 14):]
    RETURNING w.flow, w.target, w.record
), told AS (
    INSERT INTO sync_events (flow, target, scope, record, outcome, flow_version, run, trace_ids, error_code, error)
    SELECT r.flow, r.target, :scope, r.record, 'dead', t.version, CAST(:run AS bigint), i.trace_ids, i.bad_code, i.bad_error
      FROM raised r JOIN incoming i ON i.id = r.record AND i.bad_code IS NOT NULL
      JOIN json_to_recordset(CAST(:targets AS json)) AS t(flow text, target text, version integer)
        ON t.flow = r.flow AND t.target = r.target
    RETURNING 1
), woken AS MATERIALIZED (
    -- The live workers; once for the statement, for NOTIFY takes a lock until the commit is done.
    SELECT pg_notify('ipaas_work', '') FROM raised LIMIT 1
)
SELECT (SELECT count(*) FROM news) AS news, (SELECT count(*) FROM raised) AS raised, (SELECT count(*) FROM told) AS dead,
       (SELECT count(*) FROM woken) AS woken

-- name: tombstones_store
-- A tombstone that names no version (ord null) of an ordered entity keeps the one we know: a record that comes back has
-- a higher one.
WITH incoming AS MATERIALIZED (
    SELECT :system AS system, :entity AS entity, :scope AS scope, x.*,
           coalesce(x.traces, ARRAY[CAST(:trace_id AS text)]) AS trace_ids
      FROM json_to_recordset(CAST(:rows AS json)) AS x(id text, ord bigint, traces text[])
), buried AS (
    UPDATE mirror m
       SET deleted = true, ordering = coalesce(i.ord, m.ordering), read_number = :read_number,
           trace_id = i.trace_ids[cardinality(i.trace_ids)], changed_at = now()
      FROM incoming i
     WHERE m.system = i.system AND m.entity = i.entity AND m.scope = i.scope AND m.record = i.id
       AND NOT m.deleted AND m.ordering <= coalesce(i.ord, m.ordering) AND m.read_number <= :read_number
    RETURNING m.record, i.trace_ids
), raised AS (
    INSERT INTO work_items AS w (flow, target, scope, record, target_system, target_entity, lane, trace_ids)
    SELECT t.flow, t.target, :scope, b.record, t.target_system, t.target_entity, greatest(:lane, t.lane),
           b.trace_ids
      FROM buried b
     CROSS JOIN json_to_recordset(CAST(:targets AS json))
                AS t(flow text, target text, target_system text, target_entity text, lane smallint)
     ORDER BY 1, 2, 3, 4
    ON CONFLICT (flow, target, scope, record) DO UPDATE
       SET generation = w.generation + 1, state = 'due',
           lane = CASE WHEN w.state IN ('dead', 'review') THEN excluded.lane ELSE least(w.lane, excluded.lane) END,
           attempts = CASE WHEN w.state IN ('dead', 'review') THEN 0 ELSE w.attempts END,
           raised_at = CASE WHEN w.state IN ('dead', 'review') THEN now() ELSE w.raised_at END,
           due_at = CASE WHEN w.intent IS NULL THEN now() ELSE w.due_at END,
           trace_ids = (w.trace_ids || excluded.trace_ids)
                       [greatest(1, cardinality(w.trace_ids) + cardinality(excluded.trace_ids) - 14):]
    RETURNING 1
), woken AS MATERIALIZED (
    SELECT pg_notify('ipaas_work', '') FROM raised LIMIT 1
)
SELECT (SELECT count(*) FROM buried) AS news, (SELECT count(*) FROM raised) AS raised,
       (SELECT count(*) FROM woken) AS woken

-- name: cursor_move
-- Compare and set: a puller whose lease another one took commits nothing.
UPDATE entity_state
   SET cursor = CAST(:cursor AS jsonb), lease_until = now() + make_interval(secs => :seconds), last_error = NULL,
       last_pull_at = CASE WHEN :ended THEN now() ELSE last_pull_at END,
       last_complete_at = CASE WHEN :completed THEN now() ELSE last_complete_at END,
       scan_number = CASE WHEN :ended THEN NULL ELSE scan_number END,
       scan_full = CASE WHEN :ended THEN false ELSE scan_full END
 WHERE system = :system AND scope = :scope AND entity = :entity AND lease_token = :token
RETURNING 1

-- name: scan_keys_add
INSERT INTO scan_keys (scan, record)
SELECT :scan, value FROM json_array_elements_text(CAST(:ids AS json))

-- name: scan_keys_drop
DELETE FROM scan_keys WHERE scan = :scan

-- name: scan_missing
-- Records that a complete listing did not hold, among those last read before the listing began.
SELECT m.record FROM mirror m
 WHERE m.system = :system AND m.entity = :entity AND m.scope = :scope AND NOT m.deleted AND m.read_number < :scan
   AND NOT EXISTS (SELECT 1 FROM scan_keys k WHERE k.scan = :scan AND k.record = m.record)
 ORDER BY m.record

-- name: mirror_count
SELECT count(*) FROM mirror WHERE system = :system AND entity = :entity AND scope = :scope AND NOT deleted

-- name: raise_all
-- Work for every mirrored record of an entity that one flow target may now see differently, a chunk at a time.
WITH chunk AS (
    SELECT m.scope, m.record FROM mirror m
     WHERE m.system = :system AND m.entity = :entity AND (m.scope, m.record) > (:after_scope, :after_record)
       AND (CAST(:scopes AS text[]) IS NULL OR m.scope = ANY(CAST(:scopes AS text[])))
     ORDER BY m.scope, m.record LIMIT :chunk
), raised AS (
    INSERT INTO work_items AS w (flow, target, scope, record, target_system, target_entity, lane, trace_ids)
    SELECT t.flow, t.target, c.scope, c.record, t.target_system, t.target_entity, 2, ARRAY[:trace_id]
      FROM chunk c
     CROSS JOIN json_to_recordset(CAST(:targets AS json))
                AS t(flow text, target text, target_system text, target_entity text)
     ORDER BY 1, 2, 3, 4
    ON CONFLICT (flow, target, scope, record) DO UPDATE
       SET generation = w.generation + 1, state = 'due',
           attempts = CASE WHEN w.state = 'dead' THEN 0 ELSE w.attempts END,
           due_at = CASE WHEN w.intent IS NULL THEN now() ELSE w.due_at END
    RETURNING 1
)
SELECT (SELECT count(*) FROM chunk) AS records, (SELECT max(ARRAY[scope, record]) FROM chunk) AS last

-- name: mirrored_page
-- The mirrored records of an entity in key order, a page at a time.
SELECT m.scope, m.record, m.document::text AS document, m.deleted, m.bad_code, m.bad_error
  FROM mirror m
 WHERE m.system = :system AND m.entity = :entity AND (m.scope, m.record) > (:after_scope, :after_record)
   AND (CAST(:scopes AS text[]) IS NULL OR m.scope = ANY(CAST(:scopes AS text[])))
 ORDER BY m.scope, m.record LIMIT :chunk

-- name: mirrored_count
SELECT count(*) AS records FROM mirror
 WHERE system = :system AND entity = :entity
   AND (CAST(:scopes AS text[]) IS NULL OR scope = ANY(CAST(:scopes AS text[])))

-- name: raise_listed
-- Batch work for these records of one flow.
INSERT INTO work_items AS w (flow, target, scope, record, target_system, target_entity, lane, trace_ids)
SELECT t.flow, t.target, t.scope, t.record, t.target_system, t.target_entity, 2, ARRAY[:trace_id]
  FROM json_to_recordset(CAST(:items AS json))
       AS t(flow text, target text, scope text, record text, target_system text, target_entity text)
 ORDER BY 1, 2, 3, 4
ON CONFLICT (flow, target, scope, record) DO UPDATE
   SET generation = w.generation + 1, state = 'due',
       attempts = CASE WHEN w.state = 'dead' THEN 0 ELSE w.attempts END,
       due_at = CASE WHEN w.intent IS NULL THEN now() ELSE w.due_at END

-- name: raise_queued
-- Items that are in work, and those that another version of the flow gave up: they are planned again. One that is
-- written at this moment gets a new generation, so it is due again once that write is settled.
WITH picked AS (
    SELECT flow, target, scope, record FROM work_items
     WHERE flow = :flow AND target = ANY(CAST(:targets AS text[]))
       AND (lease_token IS NOT NULL OR (:given_up AND state <> 'due'))
     ORDER BY flow, target, scope, record FOR UPDATE
)
UPDATE work_items w
   SET generation = w.generation + 1, state = 'due',
       attempts = CASE WHEN w.state = 'dead' THEN 0 ELSE w.attempts END,
       due_at = CASE WHEN w.intent IS NULL THEN now() ELSE w.due_at END
  FROM picked p
 WHERE w.flow = p.flow AND w.target = p.target AND w.scope = p.scope AND w.record = p.record

-- name: drop_orphans
-- Work for targets that the flow no longer has, which nobody would ever claim, and for scopes that it no longer reads.
-- What may have been sent is kept. The lock keeps a slow worker of an older version from dropping what a newer one raised.
WITH this AS MATERIALIZED (
    SELECT 1 FROM flows WHERE flow = :flow AND active_version = :version FOR SHARE
)
DELETE FROM work_items
 WHERE flow = :flow AND intent IS NULL AND (lease_until IS NULL OR lease_until < now())
   AND (target <> ALL(CAST(:targets AS text[]))
        OR CAST(:scopes AS text[]) IS NOT NULL AND scope <> ALL(CAST(:scopes AS text[])))
   AND EXISTS (SELECT 1 FROM this)

-- name: link_versions
-- The versions of a flow that wrote the links of a target last, the newest first.
SELECT DISTINCT flow_version FROM links
 WHERE flow = :flow AND target = :target AND state <> 'deleted' ORDER BY flow_version DESC

-- name: links_forget
-- What rules wrote that a version no longer has is forgotten, a chunk of links at a time: the field is somebody else's
-- from now on, and a rule that comes back for it writes it again.
WITH chunk AS MATERIALIZED (
    SELECT l.scope, l.record,
           ARRAY(SELECT k FROM jsonb_object_keys(l.sent) AS k WHERE k <> ALL(CAST(:owned AS text[]))) AS gone
      FROM links l
     WHERE l.flow = :flow AND l.target = :target AND (l.scope, l.record) > (:after_scope, :after_record)
     ORDER BY l.scope, l.record LIMIT :chunk
), locked AS MATERIALIZED (
    SELECT :flow AS flow, :target AS target, l.scope, l.record, c.gone
      FROM chunk c JOIN links l ON l.flow = :flow AND l.target = :target AND l.scope = c.scope AND l.record = c.record
     WHERE c.gone <> '{}' ORDER BY l.scope, l.record FOR UPDATE OF l
), forgotten AS (
    UPDATE links l SET sent = l.sent - k.gone, read_back = l.read_back - k.gone
      FROM locked k
     WHERE l.flow = k.flow AND l.target = k.target AND l.scope = k.scope AND l.record = k.record
)
SELECT (SELECT count(*) FROM chunk) AS links, (SELECT max(ARRAY[scope, record]) FROM chunk) AS last

-- name: entity_state_read
SELECT cursor::text AS cursor, scan_number, scan_full, false AS first_scan, last_pull_at, last_complete_at, last_error
  FROM entity_state
 WHERE system = :system AND scope = :scope AND entity = :entity

-- name: items_waiting
SELECT w.record, m.document::text AS document, coalesce(m.deleted, true) AS deleted
  FROM work_items w
  LEFT JOIN mirror m ON m.system = :system AND m.entity = :entity AND m.scope = w.scope AND m.record = w.record
 WHERE w.flow = :flow AND w.target = :target AND w.scope = :scope AND w.state IN ('due', 'parked') AND w.record > :after
   AND m.bad_code IS NULL
 ORDER BY w.record LIMIT :chunk

-- name: entity_lease_hold
-- A puller that stalled past its lease finds out here, before it deletes anything.
UPDATE entity_state SET lease_until = now() + make_interval(secs => :seconds)
 WHERE system = :system AND scope = :scope AND entity = :entity AND lease_token = :token AND lease_until > now()
RETURNING 1

-- name: flows_of_entity
-- Who is raised by a change of this entity. The shared lock keeps a new version from becoming active between this look
-- and the commit of the page: it takes the lock alone, so it either sees the page's records or the page sees it.
SELECT flow, active_version FROM flows, pg_advisory_xact_lock_shared(hashtext(:name), 1)
 WHERE source_system = :system AND source_entity = :entity AND active_version IS NOT NULL
 ORDER BY flow
