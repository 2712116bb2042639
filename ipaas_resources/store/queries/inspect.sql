-- name: mirror_record
-- One source record in any of these scopes, as last read.
SELECT scope, document::text AS document, deleted, bad_code, bad_error, extract(epoch FROM now() - changed_at) AS age
  FROM mirror
 WHERE system = :system AND entity = :entity AND scope = ANY(CAST(:scopes AS text[])) AND record = :record
 ORDER BY scope

-- name: last_pull_age
SELECT extract(epoch FROM now() - last_pull_at) AS age FROM entity_state
 WHERE system = :system AND entity = :entity AND scope = :scope

-- name: mirror_samples
-- Some records of a source entity, those first that stand first in its key.
SELECT scope, record, document::text AS document FROM mirror
 WHERE system = :system AND entity = :entity AND NOT deleted AND bad_code IS NULL
 ORDER BY scope, record LIMIT :records

-- name: link_samples
-- Some target records that flows wrote, with the values last sent.
SELECT target_scope AS scope, target_id AS record, sent::text AS document FROM links
 WHERE flow = :flow AND target = :target AND state = 'linked' AND target_id IS NOT NULL
 ORDER BY scope, record LIMIT :records

-- name: snapshots_newest
-- The newest snapshots of an entity's schema, the newest first; one of them alone where its version is named.
SELECT version, schema::text AS schema FROM schema_snapshots
 WHERE system = :system AND entity = :entity AND (CAST(:version AS integer) IS NULL OR version = :version)
 ORDER BY version DESC LIMIT :snapshots

-- name: snapshot_versions
SELECT version FROM schema_snapshots WHERE system = :system AND entity = :entity ORDER BY version
