INSERT INTO plan (job_seq, stage, proposed, digest, revision, body)
VALUES (:job_seq, :stage, :proposed, :digest, :revision, :body)
ON CONFLICT (job_seq, stage) DO UPDATE
SET proposed = excluded.proposed, digest = excluded.digest, revision = excluded.revision, body = excluded.body
