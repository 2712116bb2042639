-- The circuit breakers of all systems. No row, or failures 0: closed. open_until in the future: open. In the past: half
-- open, and probe_until in the future says that one request tries. Each statement locks one row, so processes take turns.

-- name: breakers_read
SELECT system, failures, error, opened_at,
       CAST(extract(epoch FROM open_until - clock_timestamp()) AS double precision) AS open_left,
       CAST(extract(epoch FROM probe_until - clock_timestamp()) AS double precision) AS probe_left
  FROM breakers WHERE failures > 0 ORDER BY system

-- name: breaker_failed
-- Requests that were under way when the breaker opened, or while a probe is, count but do not prolong. A failure after
-- the time is over does: something before the probe fails, such as the sign-in.
INSERT INTO breakers AS b (system, failures, opened_at, open_until, error)
VALUES (:system, 1,
        CASE WHEN :most <= 1 THEN clock_timestamp() END,
        CASE WHEN :most <= 1 THEN clock_timestamp() + make_interval(secs => :seconds) END, :error)
ON CONFLICT (system) DO UPDATE
   SET failures = b.failures + 1, error = excluded.error,
       opened_at = CASE WHEN b.open_until IS NULL AND b.failures + 1 >= :most THEN clock_timestamp() ELSE b.opened_at END,
       open_until = CASE WHEN b.open_until IS NULL AND b.failures + 1 >= :most
                           OR b.open_until <= clock_timestamp()
                              AND (b.probe_until IS NULL OR b.probe_until <= clock_timestamp())
                         THEN clock_timestamp() + make_interval(secs => :seconds) ELSE b.open_until END
RETURNING b.failures

-- name: breaker_succeeded
-- An answer to a request from before the opening proves nothing about now: only the probe closes.
UPDATE breakers SET failures = 0, opened_at = NULL, error = NULL
 WHERE system = :system AND failures > 0 AND open_until IS NULL

-- name: breaker_probe
-- Of all processes that try, one gets the row; the others wait for its lock and then find the probe taken.
UPDATE breakers SET probe_until = clock_timestamp() + make_interval(secs => :lease)
 WHERE system = :system AND open_until <= clock_timestamp()
   AND (probe_until IS NULL OR probe_until <= clock_timestamp())
RETURNING probe_until::text AS mark

-- name: breaker_probe_succeeded
-- The mark: a probe that was taken for dead says what was so long ago, and another one decides by now.
UPDATE breakers SET failures = 0, opened_at = NULL, open_until = NULL, probe_until = NULL, error = NULL
 WHERE system = :system AND probe_until = CAST(:mark AS timestamptz)

-- name: breaker_probe_failed
UPDATE breakers
   SET failures = failures + 1, open_until = clock_timestamp() + make_interval(secs => :seconds), probe_until = NULL,
       error = :error
 WHERE system = :system AND probe_until = CAST(:mark AS timestamptz)
RETURNING failures

-- name: breaker_probe_unused
UPDATE breakers SET probe_until = NULL WHERE system = :system AND probe_until = CAST(:mark AS timestamptz)

-- name: breaker_reset
UPDATE breakers SET failures = 0, opened_at = NULL, open_until = NULL, probe_until = NULL, error = NULL
 WHERE system = :system AND open_until IS NOT NULL
RETURNING system
