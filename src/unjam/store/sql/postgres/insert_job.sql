INSERT INTO job (
    seq, id, lane_id, state, run_at, created_at, batch_seq, dedupe_key, output_path, cpu, memory_bytes, gpu
)
VALUES (coalesce(CAST(? AS bigint), nextval('job_seq_seq')), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
RETURNING seq
