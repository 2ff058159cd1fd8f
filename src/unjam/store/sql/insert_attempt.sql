INSERT INTO attempt (job_seq, fence, worker_id, host, state, started_at)
VALUES (:seq, :fence, :worker_id, :host, 'starting', :now)
