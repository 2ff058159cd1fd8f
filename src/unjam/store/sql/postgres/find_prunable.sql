SELECT seq, id, batch_seq
FROM job
WHERE finished_at < :before
  AND NOT EXISTS (
      SELECT 1
      FROM dependency AS d
      JOIN job AS w ON w.seq = d.job_seq
      WHERE d.after_id = job.id AND d.is_input = 1 AND w.finished_at IS NULL
  )
ORDER BY finished_at
LIMIT :limit
FOR UPDATE SKIP LOCKED
