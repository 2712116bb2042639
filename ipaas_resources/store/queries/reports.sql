-- name: snapshots_since_apply
-- The snapshot that a flow version was checked against when it was applied (where none is as old, the oldest), and the
-- newest one.
WITH applied AS (
    SELECT created_at FROM flow_versions WHERE flow = :flow AND version = :version
), s AS (
    SELECT version, schema::text AS schema, taken_at, taken_at <= (SELECT created_at FROM applied) AS known
      FROM schema_snapshots WHERE system = :system AND entity = :entity
)
SELECT b.version AS base_version, b.schema AS base, n.version, n.schema,
       extract(epoch FROM now() - n.taken_at)::double precision AS age
  FROM (SELECT * FROM s ORDER BY known DESC, CASE WHEN known THEN -version ELSE version END LIMIT 1) b
 CROSS JOIN (SELECT * FROM s ORDER BY version DESC LIMIT 1) n

-- name: contract_violations
-- Records that broke the contract of their entity and wait for a correction, over all flows that read the entity.
SELECT count(DISTINCT (scope, record)) AS records, min(raised_at) AS since
  FROM work_items WHERE flow = ANY(CAST(:flows AS text[])) AND state = 'dead' AND error_code = 'contract'

-- name: retire_intents
-- Closed intents have done their work; those that are open or unknown stay, however old.
WITH gone AS (
    DELETE FROM intents WHERE intent IN (
        SELECT intent FROM intents
         WHERE state IN ('settled', 'resolved') AND opened_at < now() - make_interval(days => :days)
         ORDER BY intent LIMIT :chunk)
    RETURNING 1
)
SELECT count(*) AS many FROM gone

-- name: retire_runs
WITH gone AS (
    DELETE FROM runs WHERE run IN (
        SELECT run FROM runs WHERE started_at < now() - make_interval(days => :days) ORDER BY run LIMIT :chunk)
    RETURNING 1
)
SELECT count(*) AS many FROM gone
