UPDATE job
SET state = 'queued', run_at = CASE WHEN run_at > :now THEN run_at ELSE :now END
WHERE seq = :seq AND state = 'waiting'
  AND NOT EXISTS (SELECT 1 FROM dependency WHERE job_seq = :seq AND NOT satisfied)
