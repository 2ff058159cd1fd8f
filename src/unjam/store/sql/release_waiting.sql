UPDATE job
SET state = 'queued', run_at = max(run_at, :now)
WHERE seq = :seq AND state = 'waiting'
  AND NOT EXISTS (SELECT 1 FROM dependency WHERE job_seq = :seq AND NOT satisfied)
