-- `poll_due_at` has two authors. The platform plans the next poll, always in the future. Whoever wants one earlier (a
-- subscription that was lost, a notification that names no record) sets it to now(), `poll_full` beside it where changes
-- alone will not do. No statement here may undo such a wish that it has not fulfilled.

-- name: polls_standing
-- The entities given, with when each is to be polled: seconds from now, negative when late, null when nobody wants it.
-- A held lease is looked at again soon: what is being pulled now may count.
WITH wanted AS MATERIALIZED (
    SELECT * FROM json_to_recordset(CAST(:wanted AS json))
        AS w(n integer, system text, entity text, scope text, poll_min double precision, poll_max double precision)
), planned AS (
    SELECT w.*, e.system IS NOT NULL AS known, e.poll_interval, e.poll_due_at, e.poll_reason, e.last_error,
           coalesce(e.poll_failures, 0) AS failures, coalesce(e.poll_full, false) AS asked_full,
           e.last_pull_at IS NULL OR e.scan_number IS NOT NULL AND e.scan_full AS long,
           CASE WHEN e.lease_until > now() THEN least(e.lease_until, now() + make_interval(secs => :look_again)) END
               AS lease_until,
           CASE WHEN w.poll_min IS NULL THEN e.poll_due_at
                WHEN e.poll_due_at IS NULL
                    THEN coalesce(e.last_pull_at + make_interval(secs => w.poll_min), now())
                -- Planned when the flows still allowed longer intervals.
                WHEN e.poll_interval > w.poll_max AND e.poll_failures = 0
                    THEN least(e.poll_due_at, coalesce(e.last_pull_at, now()) + make_interval(secs => w.poll_max))
                ELSE e.poll_due_at
           END AS due_at
      FROM wanted w
      LEFT JOIN entity_state e ON e.system = w.system AND e.scope = w.scope AND e.entity = w.entity
)
SELECT p.n, p.known, p.poll_interval, p.poll_due_at, p.poll_reason, p.last_error, p.failures, p.asked_full, p.long,
       p.lease_until IS NOT NULL AS busy,
       y.system IS NULL OR y.paused OR NOT coalesce((y.document ->> 'enabled')::boolean, true) AS paused,
       CAST(extract(epoch FROM b.until - now()) AS double precision) AS breaker,
       CAST(extract(epoch FROM r.not_before - now()) AS double precision) AS not_before,
       CASE WHEN p.due_at IS NOT NULL
            THEN CAST(extract(epoch FROM greatest(p.due_at, p.lease_until, b.until, r.not_before)
                                         - now()) AS double precision)
       END AS due_in
  FROM planned p
  LEFT JOIN systems y ON y.system = p.system
  -- A request that tries whether the system serves again may be answered at any moment.
  LEFT JOIN LATERAL (SELECT CASE WHEN k.open_until > now() THEN k.open_until
                                 WHEN k.probe_until > now()
                                     THEN least(k.probe_until, now() + make_interval(secs => :look_again)) END AS until
                       FROM breakers k WHERE k.system = p.system AND k.open_until IS NOT NULL) b ON true
  LEFT JOIN LATERAL (SELECT max(l.not_before) AS not_before FROM rate_budgets l
                      WHERE l.system = p.system AND l.scope IN ('', p.scope)) r ON true
 ORDER BY due_in, p.n

-- name: poll_claim
-- Compare and set: of two workers that saw the same moment, one polls. Its claim runs out by itself when it dies.
UPDATE entity_state
   SET poll_due_at = now() + make_interval(secs => :seconds),
       poll_interval = CASE WHEN poll_interval > CAST(:poll_max AS double precision)
                            THEN CAST(:poll_max AS double precision) ELSE poll_interval END
 WHERE system = :system AND scope = :scope AND entity = :entity
   AND poll_due_at IS NOT DISTINCT FROM CAST(:seen AS timestamptz) AND (lease_until IS NULL OR lease_until < now())
RETURNING poll_due_at AS claimed, poll_full AS asked_full

-- name: poll_record
-- The outcome and the next moment together. Another `poll_due_at` than the one claimed: somebody has asked meanwhile, and
-- that wish stands. A full read that failed on its way goes on from where it got to, so it need not be asked for again.
UPDATE entity_state
   SET poll_interval = coalesce(CAST(:interval AS double precision), poll_interval), poll_failures = :failures,
       poll_reason = :reason, last_error = coalesce(CAST(:error AS text), last_error),
       poll_full = poll_full AND (poll_due_at IS DISTINCT FROM :claimed
                                  OR NOT (:fulfilled OR cursor IS NOT NULL AND scan_number IS NOT NULL AND scan_full)),
       poll_due_at = CASE WHEN poll_due_at IS DISTINCT FROM :claimed THEN poll_due_at
                          ELSE now() + make_interval(secs => CAST(:pause AS double precision)) END
 WHERE system = :system AND scope = :scope AND entity = :entity

-- name: poll_give_back
-- The worker ends before the poll does: it is due for the others.
UPDATE entity_state SET poll_due_at = now()
 WHERE system = :system AND scope = :scope AND entity = :entity AND poll_due_at = :claimed

-- name: poll_clock
SELECT now() AS now

-- name: poll_counts
-- A pull outside polling ended well. It fulfils what was due or asked for before it began, and the next poll comes an
-- interval after it. What was asked for while it went on it may have passed already: that stands.
UPDATE entity_state
   SET poll_failures = 0, poll_full = false, poll_reason = :reason,
       poll_due_at = now() + make_interval(secs => poll_interval)
 WHERE system = :system AND scope = :scope AND entity = :entity AND (:full OR NOT poll_full)
   AND (poll_due_at <= :began OR poll_due_at > now())

-- name: flows_with_work
-- Per flow target and lane given, whether an item can be claimed now, `waiting` when only such that wait for another
-- record. Index look-ups, whatever the length of the queue.
WITH t AS MATERIALIZED (
    SELECT flow, target, lane FROM json_to_recordset(CAST(:queues AS json)) AS q(flow text, target text, lane smallint)
), looked AS (
    SELECT t.flow, t.lane,
           (SELECT true FROM work_items w
             WHERE w.flow = t.flow AND w.target = t.target AND w.lane = t.lane AND w.state IN ('due', 'parked')
               AND w.state = 'due' AND w.due_at <= now() AND (w.lease_until IS NULL OR w.lease_until < now())
             LIMIT 1) AS due,
           (SELECT true FROM work_items w
             WHERE w.flow = t.flow AND w.target = t.target AND w.lane = t.lane AND w.state IN ('due', 'parked')
               AND w.due_at <= now() AND (w.lease_until IS NULL OR w.lease_until < now())
             LIMIT 1) AS either
      FROM t
)
SELECT flow, min(lane) AS lane, coalesce(bool_or(due), false) AS due
  FROM looked WHERE due OR either GROUP BY flow ORDER BY flow

-- name: inbox_newest
SELECT coalesce(max(delivery), 0) AS delivery FROM inbox
