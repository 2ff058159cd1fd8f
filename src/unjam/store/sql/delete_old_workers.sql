DELETE FROM worker
WHERE expires_at < :before
  AND NOT EXISTS (SELECT 1 FROM job WHERE job.worker_id = worker.id AND job.lease_expires_at IS NOT NULL)
