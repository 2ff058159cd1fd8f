-- Rows that another machine is just taking are not waited for: their lanes have others.
-- Only as it was seen: one that others took and gave back meanwhile is in its backoff, or waits for its machine; one
-- that got other terms may not fit.
WITH seen AS (
    SELECT
        CAST(one.value ->> 0 AS bigint) AS seq, CAST(one.value ->> 1 AS integer) AS as_fence,
        CAST(one.value ->> 2 AS integer) AS as_lane, CAST(one.value ->> 3 AS integer) AS as_cpu,
        CAST(one.value ->> 4 AS bigint) AS as_memory, CAST(one.value ->> 5 AS integer) AS as_gpu
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
  AND job.lane_id = seen.as_lane AND job.cpu = seen.as_cpu AND job.memory_bytes = seen.as_memory
  AND job.gpu = seen.as_gpu
  AND EXISTS (
      SELECT 1 FROM lane AS l JOIN queue AS q ON q.name = l.queue WHERE l.id = job.lane_id AND q.paused_by IS NULL
  )
