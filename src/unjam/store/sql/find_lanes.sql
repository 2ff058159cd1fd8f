SELECT l.id
FROM lane AS l
JOIN queue AS q ON q.name = l.queue
WHERE q.paused_by IS NULL
  AND l.pipeline IN (SELECT value FROM json_each(:pipelines))
  AND (:queues IS NULL OR l.queue IN (SELECT value FROM json_each(:queues)))
  AND EXISTS (SELECT 1 FROM job AS j WHERE j.lane_id = l.id AND j.state = 'queued' AND j.run_at <= :now)
LIMIT 1
