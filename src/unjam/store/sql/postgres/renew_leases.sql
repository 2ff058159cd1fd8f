-- The rows are locked first, and the leases looked at then, with the time that the locks took: one that ran out
-- meanwhile is not renewed (INV-ONCE). Where the clock was set less than one lease ago, none ran out by that.
WITH held AS (
    SELECT one.value ->> 0 AS id, CAST(one.value ->> 1 AS integer) AS fence
    FROM json_array_elements(CAST(:held AS json)) AS one (value)
),
mine AS MATERIALIZED (
    SELECT job.seq
    FROM job
    WHERE job.id = ANY (ARRAY(SELECT id FROM held)) AND job.worker_id = :worker_id
    ORDER BY job.id
    FOR NO KEY UPDATE
)
UPDATE job
SET lease_expires_at = :stamp + :ttl, heartbeat_at = :stamp
FROM mine, held
WHERE job.seq = mine.seq AND job.id = held.id AND job.fence = held.fence AND job.worker_id = :worker_id
  AND (
      job.lease_expires_at > coalesce(
          CAST(:now AS double precision) + extract(epoch FROM clock_timestamp() - statement_timestamp()), :stamp
      )
      OR :stamp - :ttl < :clock_set_at
  )
RETURNING job.id, job.fence, job.requested, job.request_code, job.request_message, job.lease_expires_at
