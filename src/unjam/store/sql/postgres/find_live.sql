SELECT
    j.seq, j.id, j.fence, j.phase, j.worker_id, j.lease_expires_at, a.identity,
    EXISTS (
        SELECT 1 FROM unit AS u WHERE u.job_seq = j.seq AND u.fence = j.fence AND u.state = 'committed'
    ) AS units_committed
FROM job AS j
JOIN attempt AS a ON a.job_seq = j.seq AND a.fence = j.fence
WHERE j.host IS NOT NULL AND j.lease_expires_at IS NOT NULL
  AND (CAST(:host AS text) IS NULL OR j.host = :host)
  AND (CAST(:before AS double precision) IS NULL OR j.lease_expires_at <= :before)
ORDER BY j.lease_expires_at
