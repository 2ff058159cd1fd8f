SELECT l.id AS lane, l.priority, j.seq, j.fence, j.run_at, :now AS now, j.cpu, j.memory_bytes, j.gpu
FROM lane AS l
JOIN queue AS q ON q.name = l.queue
JOIN job AS j ON j.seq IN (
    SELECT h.seq
    FROM job AS h
    WHERE h.lane_id = l.id AND h.state = 'queued' AND h.run_at <= :now
      -- Units that lie on another machine would be done again here: that one may take the job for one TTL.
      AND NOT (
          EXISTS (
              SELECT 1 FROM unit AS u WHERE u.job_seq = h.seq AND u.state = 'committed' AND u.host <> :host
          )
          AND NOT EXISTS (
              SELECT 1 FROM unit AS u WHERE u.job_seq = h.seq AND u.state = 'committed' AND u.host = :host
          )
          AND max(h.run_at, (SELECT max(a.ended_at) FROM attempt AS a WHERE a.job_seq = h.seq)) > :now - :ttl
      )
    ORDER BY h.run_at, h.seq
    LIMIT :limit
)
WHERE q.paused_by IS NULL
  AND l.pipeline IN (SELECT value FROM json_each(:pipelines))
  AND (:queues IS NULL OR l.queue IN (SELECT value FROM json_each(:queues)))
