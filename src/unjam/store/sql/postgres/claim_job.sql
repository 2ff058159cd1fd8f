-- A row that another machine is just taking is not waited for: its lane has others.
UPDATE job
SET state = 'running', phase = 'starting', fence = fence + 1, attempts = attempts + 1,
    worker_id = :worker_id, host = :host, lease_expires_at = :lease_expires_at, heartbeat_at = :now,
    started_at = coalesce(started_at, :now), reason_code = NULL, reason_message = NULL
WHERE seq = (SELECT seq FROM job WHERE seq = :seq AND state = 'queued' FOR NO KEY UPDATE SKIP LOCKED)
  AND state = 'queued'
RETURNING fence
