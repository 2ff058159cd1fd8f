INSERT INTO publish (job_seq, fence, outputs, outcome)
VALUES (:job_seq, :fence, :outputs, :outcome)
ON CONFLICT (job_seq) DO UPDATE
SET fence = excluded.fence, outputs = excluded.outputs, outcome = excluded.outcome
