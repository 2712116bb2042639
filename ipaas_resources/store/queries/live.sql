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
