-- Of a job that was claimed in this transaction: every older claim has its attempt.
INSERT INTO attempt (job_seq, fence, worker_id, host, host_name, state, started_at)
SELECT seq, fence, :worker_id, :host, :host_name, 'starting', :stamp
FROM job
WHERE seq = :seq AND worker_id = :worker_id
  AND NOT EXISTS (SELECT 1 FROM attempt AS a WHERE a.job_seq = job.seq AND a.fence = job.fence)
