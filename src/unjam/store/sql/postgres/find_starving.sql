-- Due for longer than :patience, and only other workers of this machine serve them, which have a free slot: the first
-- of each lane.
WITH clock AS (
    SELECT coalesce(CAST(:now AS double precision), extract(epoch FROM statement_timestamp())) AS now
)
SELECT l.id AS lane, l.priority, j.seq, j.run_at, j.cpu, j.memory_bytes, j.gpu
FROM clock
CROSS JOIN lane AS l
JOIN queue AS q ON q.name = l.queue
CROSS JOIN LATERAL (
    SELECT h.seq, h.run_at, h.cpu, h.memory_bytes, h.gpu
    FROM job AS h
    WHERE h.lane_id = l.id AND h.state = 'queued' AND h.run_at < clock.now - CAST(:patience AS double precision)
      AND (h.gpu = 0 OR CAST(:gpu AS integer) > 0)
    ORDER BY h.run_at, h.seq
    LIMIT 1
) AS j
WHERE q.paused_by IS NULL
  AND NOT (
      l.pipeline IN (SELECT json_array_elements_text(CAST(:pipelines AS json)))
      AND (
          CAST(:queues AS text) IS NULL
          OR l.queue IN (SELECT json_array_elements_text(CAST(:queues AS json)))
      )
  )
  AND EXISTS (
      SELECT 1
      FROM worker AS w
      WHERE w.host = :host AND w.id <> :worker_id AND w.draining = 0 AND w.expires_at > clock.now
        AND l.pipeline IN (SELECT json_array_elements_text(CAST(w.pipelines AS json)))
        AND (w.queues IS NULL OR l.queue IN (SELECT json_array_elements_text(CAST(w.queues AS json))))
        AND w.slots > w.stuck + (
            SELECT count(*)
            FROM job AS r
            WHERE r.host = :host AND r.worker_id = w.id AND r.lease_expires_at IS NOT NULL
        )
  )
