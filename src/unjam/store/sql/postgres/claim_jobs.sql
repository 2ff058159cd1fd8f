-- Rows that another machine is just taking are not waited for: their lanes have others.
-- Only as it was seen: one that others took and gave back meanwhile is in its backoff, or waits for its machine.
WITH seen AS (
    SELECT CAST(one.value ->> 0 AS bigint) AS seq, CAST(one.value ->> 1 AS integer) AS as_fence
    FROM json_array_elements(CAST(:seen AS json)) AS one (value)
),
free AS MATERIALIZED (
    SELECT seq
    FROM job
    WHERE seq = ANY (ARRAY(SELECT seq FROM seen)) AND state = 'queued'
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE job
SET state = 'running', phase = 'starting', fence = fence + 1, attempts = attempts + 1,
    worker_id = :worker_id, host = :host, lease_expires_at = :stamp + :ttl, heartbeat_at = :stamp,
    started_at = coalesce(started_at, :stamp), reason_code = NULL, reason_message = NULL
FROM free, seen
WHERE job.seq = free.seq AND job.seq = seen.seq AND job.fence = seen.as_fence AND job.state = 'queued'
