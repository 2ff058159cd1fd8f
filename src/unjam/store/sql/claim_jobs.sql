-- Only as it was seen: one that others took and gave back meanwhile is in its backoff, or waits for its machine; one
-- that got other terms may not fit; and the number of one that was removed may be another job's by now.
-- Its state is looked at in the row (+): the index of states would be read from its first queued job on.
UPDATE job
SET state = 'running', phase = 'starting', fence = fence + 1, attempts = attempts + 1,
    worker_id = :worker_id, host = :host, lease_expires_at = :stamp + :ttl, heartbeat_at = :stamp,
    started_at = coalesce(started_at, :stamp), reason_code = NULL, reason_message = NULL
FROM json_each(:seen) AS seen
WHERE job.seq = json_extract(seen.value, '$[0]') AND job.fence = json_extract(seen.value, '$[1]')
  AND +job.state = 'queued' AND +job.lane_id = json_extract(seen.value, '$[2]')
  AND job.cpu = json_extract(seen.value, '$[3]') AND job.memory_bytes = json_extract(seen.value, '$[4]')
  AND job.gpu = json_extract(seen.value, '$[5]')
  AND EXISTS (
      SELECT 1 FROM lane AS l JOIN queue AS q ON q.name = l.queue WHERE l.id = job.lane_id AND q.paused_by IS NULL
  )
