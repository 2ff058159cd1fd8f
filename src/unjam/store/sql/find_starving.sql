-- Due for longer than :patience, and only other workers of this machine serve them, which have a free slot: the first
-- of each lane.
SELECT l.id AS lane, l.priority, j.seq, j.run_at, j.cpu, j.memory_bytes, j.gpu
FROM lane AS l
JOIN queue AS q ON q.name = l.queue
JOIN job AS j ON j.seq = (
    SELECT h.seq
    FROM job AS h
    WHERE h.lane_id = l.id AND h.state = 'queued' AND h.run_at < :now - :patience AND (h.gpu = 0 OR :gpu > 0)
    ORDER BY h.run_at, h.seq
    LIMIT 1
)
WHERE q.paused_by IS NULL
  AND NOT (
      l.pipeline IN (SELECT value FROM json_each(:pipelines))
      AND (:queues IS NULL OR l.queue IN (SELECT value FROM json_each(:queues)))
  )
  AND EXISTS (
      SELECT 1
      FROM worker AS w
      WHERE w.host = :host AND w.id <> :worker_id AND w.draining = 0 AND w.expires_at > :now
        AND l.pipeline IN (SELECT value FROM json_each(w.pipelines))
        AND (w.queues IS NULL OR l.queue IN (SELECT value FROM json_each(w.queues)))
        AND w.slots > w.stuck + (
            SELECT count(*)
            FROM job AS r
            WHERE r.host = :host AND r.worker_id = w.id AND r.lease_expires_at IS NOT NULL
        )
  )
