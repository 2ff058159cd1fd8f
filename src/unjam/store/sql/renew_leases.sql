-- Where the clock was set less than one lease ago, none ran out by that.
UPDATE job
SET lease_expires_at = :stamp + :ttl, heartbeat_at = :stamp
FROM json_each(:held) AS held
WHERE job.id = json_extract(held.value, '$[0]') AND job.fence = json_extract(held.value, '$[1]')
  AND job.worker_id = :worker_id
  AND (job.lease_expires_at > :stamp OR :stamp - :ttl < :clock_set_at)
RETURNING job.id, job.fence, job.requested, job.request_code, job.request_message, job.lease_expires_at
