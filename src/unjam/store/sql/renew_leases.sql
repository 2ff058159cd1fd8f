UPDATE job
SET lease_expires_at = :lease_expires_at, heartbeat_at = :now
FROM json_each(:held) AS held
WHERE job.id = json_extract(held.value, '$[0]') AND job.fence = json_extract(held.value, '$[1]')
  AND job.worker_id = :worker_id AND job.lease_expires_at > :after
RETURNING job.id, job.fence, job.requested, job.request_code, job.request_message, job.lease_expires_at
