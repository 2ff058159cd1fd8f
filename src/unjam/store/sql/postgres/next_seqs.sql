SELECT nextval('job_seq_seq') AS seq FROM generate_series(1, :count)
