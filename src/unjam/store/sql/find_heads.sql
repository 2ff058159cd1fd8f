SELECT seq, run_at, cpu, memory_bytes, gpu
FROM job
WHERE lane_id = :lane AND state = 'queued' AND run_at <= :now AND (run_at, seq) > (:after_run_at, :after_seq)
ORDER BY run_at, seq
LIMIT :limit
