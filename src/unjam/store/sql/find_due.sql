SELECT
    EXISTS (
        SELECT 1
        FROM lane AS l
        JOIN queue AS q ON q.name = l.queue
        WHERE q.paused_by IS NULL
          AND l.pipeline IN (SELECT value FROM json_each(:pipelines))
          AND (:queues IS NULL OR l.queue IN (SELECT value FROM json_each(:queues)))
          AND EXISTS (SELECT 1 FROM job AS j WHERE j.lane_id = l.id AND j.state = 'queued' AND j.run_at <= :now)
    ) AS claimable,
    EXISTS (
        SELECT 1
        FROM job AS r
        WHERE r.host = :host AND r.worker_id = :worker_id AND r.lease_expires_at IS NOT NULL
          AND r.requested IS NOT NULL
    ) AS requested,
    EXISTS (
        SELECT 1 FROM job AS e WHERE e.host IS NOT NULL AND e.lease_expires_at IS NOT NULL AND e.lease_expires_at <= :now
    ) AS expired,
    EXISTS (SELECT 1 FROM attachment WHERE expires_at <= :now) AS abandoned,
    EXISTS (SELECT 1 FROM worker WHERE host = :host AND id <> :worker_id) AS neighbours
