-- LATERAL: of each lane only the head of its index is read. One list of all lanes would be read and sorted whole.
SELECT
    l.id AS lane, l.priority, j.seq, whole.fence, j.run_at, j.cpu, j.memory_bytes, j.gpu,
    coalesce(CAST(:now AS double precision), extract(epoch FROM statement_timestamp())) AS now
FROM lane AS l
JOIN queue AS q ON q.name = l.queue
CROSS JOIN LATERAL (
    SELECT h.seq, h.run_at, h.cpu, h.memory_bytes, h.gpu
    FROM job AS h
    WHERE h.lane_id = l.id AND h.state = 'queued'
      AND h.run_at <= coalesce(CAST(:now AS double precision), extract(epoch FROM statement_timestamp()))
      -- Units that lie on another machine would be done again here: that one may take the job for one TTL.
      AND NOT (
          EXISTS (
              SELECT 1 FROM unit AS u WHERE u.job_seq = h.seq AND u.state = 'committed' AND u.host <> :host
          )
          AND NOT EXISTS (
              SELECT 1 FROM unit AS u WHERE u.job_seq = h.seq AND u.state = 'committed' AND u.host = :host
          )
          AND greatest(h.run_at, (SELECT max(a.ended_at) FROM attempt AS a WHERE a.job_seq = h.seq))
              > coalesce(CAST(:now AS double precision), extract(epoch FROM statement_timestamp())) - CAST(:ttl AS double precision)
      )
    ORDER BY h.run_at, h.seq
    LIMIT :limit
) AS j
JOIN job AS whole ON whole.seq = j.seq
WHERE q.paused_by IS NULL
  AND l.pipeline IN (SELECT json_array_elements_text(CAST(:pipelines AS json)))
  AND (
      CAST(:queues AS text) IS NULL
      OR l.queue IN (SELECT json_array_elements_text(CAST(:queues AS json)))
  )
