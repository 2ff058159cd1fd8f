SELECT
    j.seq, j.id, j.fence, j.phase, j.worker_id, j.lease_expires_at, a.identity,
    EXISTS (
        SELECT 1 FROM unit AS u WHERE u.job_seq = j.seq AND u.fence = j.fence AND u.state = 'committed'
    ) AS units_committed
FROM job AS j
JOIN attempt AS a ON a.job_seq = j.seq AND a.fence = j.fence
WHERE j.lease_expires_at IS NOT NULL
  AND (:host IS NULL OR j.host = :host)
  AND (:before IS NULL OR j.lease_expires_at <= :before)
ORDER BY j.lease_expires_at
