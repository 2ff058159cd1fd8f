INSERT INTO dependency (job_seq, after_id, is_input) VALUES (?, ?, ?)
