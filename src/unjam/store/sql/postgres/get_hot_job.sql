SELECT seq, id, state, phase, requested, request_code, request_message, fence, run_at, worker_id, host,
       attempts, failures, crashes, losses, finished_at, batch_seq
FROM job
WHERE id = :id
FOR NO KEY UPDATE
