INSERT INTO tag (job_seq, key, value) VALUES (?, ?, ?)
