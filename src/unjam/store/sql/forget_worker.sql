DELETE FROM worker
WHERE id = :id
  AND NOT EXISTS (SELECT 1 FROM job WHERE job.worker_id = :id AND job.lease_expires_at IS NOT NULL)
