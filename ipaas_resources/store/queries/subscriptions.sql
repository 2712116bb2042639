-- name: subscriptions_live
-- Who may send now, with the connector that knows the proof (null: the system has gone).
SELECT s.subscription, s.system, s.entity, s.scope, s.proof, s.secret, s.secret_old, y.connector
  FROM subscriptions s
  LEFT JOIN systems y ON y.system = s.system
 WHERE s.state = 'active'

-- name: subscription_handshake
-- Whether a validation handshake of this subscription is expected at this moment.
SELECT coalesce(handshake_until > now(), false) AS expected
  FROM subscriptions WHERE subscription = :subscription AND state = 'active'

-- name: subscriptions_all
SELECT s.*, s.expires_at <= now() AS expired
  FROM subscriptions s
 ORDER BY s.system, s.entity, s.scope, s.subscription

-- name: subscription_prepare
-- The row stands before the product is asked, for it calls the URL while it answers. Of a row that is there, what the
-- product said stays: if this attempt dies, the next round still knows whose it is.
INSERT INTO subscriptions AS s (subscription, system, entity, scope, proof, secret, secret_old, managed, handshake_until)
VALUES (:subscription, :system, :entity, :scope, :proof, :secret, :secret_old, true,
        now() + make_interval(secs => :seconds))
ON CONFLICT (subscription) DO UPDATE
   SET system = excluded.system, entity = excluded.entity, scope = excluded.scope, proof = excluded.proof,
       secret = excluded.secret, secret_old = excluded.secret_old, state = 'active', managed = true,
       handshake_until = excluded.handshake_until

-- name: subscription_there
-- The product has it. The secret that only the product still used goes with `secret_old`.
UPDATE subscriptions
   SET product_id = :product_id, resource = :resource, etag = :etag, expires_at = :expires_at, checked_at = now(),
       error = NULL, handshake_until = NULL, secret_old = CAST(:secret_old AS text)
 WHERE subscription = :subscription AND state = 'active'

-- name: subscription_catch_up
-- Nobody was told of changes for a while, so they are read: due now, whatever was planned. The time differs from the one
-- that a poll under way has claimed, so that poll cannot settle this one.
INSERT INTO entity_state AS e (system, scope, entity, poll_due_at, poll_reason)
VALUES (:system, :scope, :entity, now(), :reason)
ON CONFLICT (system, scope, entity) DO UPDATE SET poll_due_at = now(), poll_reason = excluded.poll_reason

-- name: subscription_stand_in
-- An entity that is never polled, and whose subscription is not there: it is read now and then. `poll_due_at` of another
-- one is left alone, and one that is being read has its lease.
INSERT INTO entity_state AS e (system, scope, entity, poll_due_at, poll_reason)
VALUES (:system, :scope, :entity, now(), :reason)
ON CONFLICT (system, scope, entity) DO UPDATE SET poll_due_at = now(), poll_reason = excluded.poll_reason
 WHERE e.poll_due_at IS NULL
   AND (e.last_pull_at IS NULL OR e.last_pull_at < now() - make_interval(secs => :seconds))
   AND (e.lease_until IS NULL OR e.lease_until < now())

-- name: subscription_errors
-- Written when it is news: a product that is down for a night makes no row version a minute.
UPDATE subscriptions SET error = :error
 WHERE subscription = ANY(CAST(:subscriptions AS text[])) AND error IS DISTINCT FROM :error

-- name: subscription_retire
-- Of one that a product no longer has; false: there is no live one.
UPDATE subscriptions
   SET state = 'retired', handshake_until = NULL, product_id = NULL, etag = NULL, expires_at = NULL, error = NULL
 WHERE subscription = :subscription AND state = 'active'
RETURNING subscription

-- name: subscriptions_known
-- Those of these ids that take deliveries, whatever their system.
SELECT subscription FROM subscriptions WHERE subscription = ANY(CAST(:subscriptions AS text[])) AND state = 'active'

-- name: subscriptions_lock
SELECT pg_try_advisory_lock(hashtext('subscriptions'), 0) AS taken

-- name: subscriptions_unlock
SELECT pg_advisory_unlock(hashtext('subscriptions'), 0)

-- name: webhook_flows
-- Whose text cannot be read, of these: what they want is not known, so nothing of theirs is taken away.
SELECT source_system AS system, source_entity AS entity FROM flows WHERE flow = ANY(CAST(:flows AS text[]))

-- name: flows_enabled
SELECT flow FROM flows WHERE flow = ANY(CAST(:flows AS text[])) AND enabled

-- name: subscription_states
-- What the check of one entity looks at: live rows that a delivery of it may come by, and the system's own words.
SELECT y.document, y.paused, s.subscription, s.entity, s.scope, s.managed, s.product_id, s.error,
       extract(epoch FROM s.expires_at - now()) AS expires_in
  FROM systems y
  LEFT JOIN subscriptions s ON s.system = y.system AND s.state = 'active' AND s.entity IN ('', :entity)
 WHERE y.system = :system
 ORDER BY s.subscription
