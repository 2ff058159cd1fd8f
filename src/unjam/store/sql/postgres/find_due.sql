SELECT
    EXISTS (
        SELECT 1
        FROM lane AS l
        JOIN queue AS q ON q.name = l.queue
        WHERE q.paused_by IS NULL
          AND l.pipeline IN (SELECT json_array_elements_text(CAST(:pipelines AS json)))
          AND (
              CAST(:queues AS text) IS NULL
              OR l.queue IN (SELECT json_array_elements_text(CAST(:queues AS json)))
          )
          AND EXISTS (
              SELECT 1 FROM job AS j WHERE j.lane_id = l.id AND j.state = 'queued' AND j.run_at <= t.now
          )
    ) AS claimable,
    EXISTS (
        SELECT 1
        FROM job AS r
        WHERE r.host = :host AND r.worker_id = :worker_id AND r.lease_expires_at IS NOT NULL
          AND r.requested IS NOT NULL
    ) AS requested,
    EXISTS (
        SELECT 1
        FROM job AS e
        WHERE e.host IS NOT NULL AND e.lease_expires_at IS NOT NULL AND e.lease_expires_at <= t.now
    ) AS expired,
    EXISTS (SELECT 1 FROM attachment WHERE expires_at <= t.now) AS abandoned,
    EXISTS (SELECT 1 FROM worker WHERE host = :host AND id <> :worker_id) AS neighbours
FROM (
    SELECT coalesce(CAST(:now AS double precision), extract(epoch FROM statement_timestamp())) AS now
) AS t
