INSERT OR REPLACE INTO plan (job_seq, stage, proposed, digest, revision, body)
VALUES (:job_seq, :stage, :proposed, :digest, :revision, :body)
