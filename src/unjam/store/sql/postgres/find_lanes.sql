SELECT l.id
FROM lane AS l
JOIN queue AS q ON q.name = l.queue
WHERE q.paused_by IS NULL
  AND l.pipeline IN (SELECT json_array_elements_text(CAST(:pipelines AS json)))
  AND (
      CAST(:queues AS text) IS NULL
      OR l.queue IN (SELECT json_array_elements_text(CAST(:queues AS json)))
  )
  AND EXISTS (
      SELECT 1
      FROM job AS j
      WHERE j.lane_id = l.id AND j.state = 'queued'
        AND j.run_at <= coalesce(CAST(:now AS double precision), extract(epoch FROM statement_timestamp()))
  )
LIMIT 1
