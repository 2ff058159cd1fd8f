-- Rows that another machine is just taking are not waited for: their lanes have others.
WITH free AS MATERIALIZED (
    SELECT seq
    FROM job
    WHERE seq = ANY (ARRAY(SELECT CAST(json_array_elements_text(CAST(:seqs AS json)) AS bigint))) AND state = 'queued'
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE job
SET state = 'running', phase = 'starting', fence = fence + 1, attempts = attempts + 1,
    worker_id = :worker_id, host = :host, lease_expires_at = :stamp + :ttl, heartbeat_at = :stamp,
    started_at = coalesce(started_at, :stamp), reason_code = NULL, reason_message = NULL
FROM free
WHERE job.seq = free.seq AND job.state = 'queued'
