INSERT INTO job_detail (job_seq, name, pipeline_version, params, inputs, tags, more)
VALUES (?, ?, ?, ?, ?, ?, ?)
