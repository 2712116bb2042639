-- name: holding
-- The moment, and what a person stopped: read again each time, for it may change while a worker works.
SELECT now() AS moment,
       ARRAY(SELECT system FROM systems WHERE paused OR document ->> 'enabled' = 'false') AS paused,
       ARRAY(SELECT flow FROM flows WHERE NOT enabled) AS disabled
