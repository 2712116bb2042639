-- name: snapshot_lock
SELECT pg_advisory_xact_lock(hashtext('schema_snapshots'), hashtext(:name))

-- name: run_start
INSERT INTO runs (flow, mode, trace_id) VALUES (:flow, :mode, :trace_id) RETURNING run

-- name: run_end
UPDATE runs SET ended_at = now(), counts = CAST(:counts AS jsonb), error = :error WHERE run = :run

-- name: dead_counts
SELECT state, coalesce(error_code, '') AS error_code, count(*) AS items FROM work_items
 WHERE flow = :flow AND (:target = '' OR target = :target) AND state IN ('dead', 'review')
 GROUP BY 1, 2 ORDER BY 1, 2

-- name: freshness
-- Age in seconds of the oldest change that is not settled, and of the last pull that ended without error.
SELECT now() AS moment,
       (SELECT extract(epoch FROM now() - min(w.raised_at)) FROM work_items w
         WHERE w.flow = :flow AND w.target = :target AND w.state IN ('due', 'parked')) AS oldest_pending,
       (SELECT extract(epoch FROM now() - min(e.last_pull_at)) FROM entity_state e
         WHERE e.system = :system AND e.entity = :entity) AS last_pull,
       (SELECT count(*) FROM entity_state e WHERE e.system = :system AND e.entity = :entity
           AND e.last_pull_at IS NULL) AS never_pulled

-- name: last_run
SELECT run, started_at, ended_at, counts::text AS counts, error FROM runs WHERE flow = :flow ORDER BY run DESC LIMIT 1

-- name: entity_flows_lock
SELECT pg_advisory_xact_lock(hashtext(:name), 1)

-- name: schemas_newest
SELECT DISTINCT ON (system, entity) system, entity, schema::text AS schema
  FROM schema_snapshots ORDER BY system, entity, version DESC
