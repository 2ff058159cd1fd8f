INSERT INTO attempt (job_seq, fence, worker_id, host, host_name, state, started_at)
VALUES (:seq, :fence, :worker_id, :host, :host_name, 'starting', :now)
