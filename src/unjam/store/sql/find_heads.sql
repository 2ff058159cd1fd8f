SELECT seq, run_at, cpu, memory_bytes, gpu
FROM job
WHERE lane_id = :lane AND state = 'queued' AND run_at <= :now
ORDER BY run_at, seq
LIMIT :limit OFFSET :offset
