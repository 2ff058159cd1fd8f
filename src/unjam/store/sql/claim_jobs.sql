UPDATE job
SET state = 'running', phase = 'starting', fence = fence + 1, attempts = attempts + 1,
    worker_id = :worker_id, host = :host, lease_expires_at = :stamp + :ttl, heartbeat_at = :stamp,
    started_at = coalesce(started_at, :stamp), reason_code = NULL, reason_message = NULL
WHERE seq IN (SELECT value FROM json_each(:seqs)) AND state = 'queued'
