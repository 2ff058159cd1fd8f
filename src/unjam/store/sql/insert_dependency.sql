INSERT INTO dependency (job_seq, after_id) VALUES (?, ?)
