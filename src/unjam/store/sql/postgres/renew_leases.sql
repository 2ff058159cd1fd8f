-- The rows are locked first, and the leases looked at then, with the time that the locks took: one that ran out
-- meanwhile is not renewed (INV-ONCE).
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
SET lease_expires_at = :lease_expires_at, heartbeat_at = :now
FROM mine, held
WHERE job.seq = mine.seq AND job.id = held.id AND job.fence = held.fence AND job.worker_id = :worker_id
  AND job.lease_expires_at > :after + extract(epoch FROM clock_timestamp() - statement_timestamp())
RETURNING job.id, job.fence, job.requested, job.request_code, job.request_message, job.lease_expires_at
