-- name: worker_beat
INSERT INTO workers (worker, role, lane, host, pid, details)
VALUES (:worker, :role, :lane, :host, :pid, CAST(:details AS jsonb))
ON CONFLICT (worker) DO UPDATE SET beat_at = now(), details = excluded.details

-- name: worker_gone
DELETE FROM workers WHERE worker = :worker

-- name: workers_forget
-- Processes that said nothing for so long will not come back under that name.
DELETE FROM workers WHERE beat_at < now() - make_interval(secs => :seconds)

-- name: workers_alive
SELECT worker, role, lane, host, pid, started_at, extract(epoch FROM now() - beat_at) AS age, details::text AS details
  FROM workers WHERE beat_at > now() - make_interval(secs => :seconds)
 ORDER BY role, lane, started_at

-- name: registry_stamp
-- Changes when a flow or a system does that a worker has opened; the second one when a schema does.
SELECT (SELECT md5(coalesce(string_agg(part, chr(31) ORDER BY part), ''))
          FROM (SELECT concat_ws(chr(30), 'flow', flow, active_version, enabled) AS part FROM flows
                 UNION ALL
                SELECT concat_ws(chr(30), 'system', system, updated_at, paused) FROM systems) AS parts) AS registry,
       (SELECT md5(coalesce(string_agg(part, chr(31) ORDER BY part), ''))
          FROM (SELECT concat_ws(chr(30), system, entity, max(version)) AS part
                  FROM schema_snapshots GROUP BY system, entity) AS parts) AS schemas
