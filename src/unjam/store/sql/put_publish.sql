INSERT OR REPLACE INTO publish (job_seq, fence, outputs, outcome)
VALUES (:job_seq, :fence, :outputs, :outcome)
