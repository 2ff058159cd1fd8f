INSERT INTO job_detail (job_seq, name, pipeline_version, spec) VALUES (?, ?, ?, ?)
