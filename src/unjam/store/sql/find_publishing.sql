SELECT j.id, p.fence, p.outputs, p.outcome
FROM job AS j
JOIN publish AS p ON p.job_seq = j.seq AND p.fence = j.fence
WHERE j.host = :host AND j.lease_expires_at IS NOT NULL AND j.phase = 'publishing'
ORDER BY j.seq
