-- name: status_inbox
SELECT (SELECT count(*) FROM inbox WHERE state = 'due') AS due,
       (SELECT extract(epoch FROM now() - min(received_at)) FROM inbox WHERE state = 'due') AS lag,
       (SELECT count(*) FROM inbox WHERE state = 'dead') AS dead

-- name: status_hints
SELECT count(*) FILTER (WHERE state = 'due') AS due, count(*) FILTER (WHERE state = 'dead') AS dead,
       extract(epoch FROM now() - min(due_at) FILTER (WHERE state = 'due' AND due_at <= now()
                 AND (lease_until IS NULL OR lease_until < now()))) AS lag
  FROM hints

-- name: status_queue
-- Lag: of items that could be claimed now. One that sleeps until its next attempt, or that somebody holds, is not late.
SELECT flow, target, target_system, lane,
       count(*) FILTER (WHERE state = 'due') AS due, count(*) FILTER (WHERE state = 'parked') AS parked,
       count(*) FILTER (WHERE state = 'review') AS review, count(*) FILTER (WHERE state = 'dead') AS dead,
       extract(epoch FROM now() - min(due_at) FILTER (WHERE state IN ('due', 'parked') AND due_at <= now()
                 AND (lease_until IS NULL OR lease_until < now()))) AS lag
  FROM work_items GROUP BY flow, target, target_system, lane

-- name: status_polls
SELECT system, entity, count(*) AS scopes, min(poll_interval) AS shortest, max(poll_interval) AS longest,
       extract(epoch FROM min(poll_due_at) - now()) AS next,
       (array_agg(poll_reason ORDER BY poll_due_at))[1] AS reason
  FROM entity_state WHERE poll_due_at IS NOT NULL
 GROUP BY system, entity ORDER BY min(poll_due_at), system, entity

-- name: status_subscriptions
-- No URL key and no secret reference: only what there is to mend.
SELECT subscription, system, entity, scope, error, expires_at
  FROM subscriptions WHERE state = 'active' AND error IS NOT NULL
 ORDER BY system, entity, scope

-- name: status_reports
SELECT count(*) AS due, extract(epoch FROM now() - min(at)) AS lag FROM report_due
