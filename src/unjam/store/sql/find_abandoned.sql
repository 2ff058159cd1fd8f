SELECT seq, id, state, phase, requested, fence
FROM job
WHERE seq = :seq AND finished_at IS NULL
  AND NOT EXISTS (SELECT 1 FROM attachment WHERE job_seq = :seq)
