SELECT stage, proposed, digest, revision, body FROM plan WHERE job_seq = :job_seq AND stage = :stage
