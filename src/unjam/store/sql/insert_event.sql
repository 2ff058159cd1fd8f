INSERT INTO event (at, job_seq, attempt, kind, state_from, state_to, data)
VALUES (?, ?, ?, ?, ?, ?, ?)
