-- Of a job that was claimed in this transaction: every older claim has its attempt.
INSERT INTO event (at, job_seq, attempt, kind, state_from, state_to, data)
SELECT :stamp, seq, fence, 'claimed', 'queued', 'running', :data
FROM job
WHERE seq = :seq AND worker_id = :worker_id
  AND NOT EXISTS (SELECT 1 FROM attempt AS a WHERE a.job_seq = job.seq AND a.fence = job.fence)
