-- Without a time it is the server's.
INSERT INTO event (at, job_seq, attempt, kind, state_from, state_to, data)
VALUES (coalesce(CAST(? AS double precision), extract(epoch FROM clock_timestamp())), ?, ?, ?, ?, ?, ?)
