INSERT INTO artifact (job_seq, name, kind, path, size_bytes, sha256, media)
VALUES (:job_seq, :name, :kind, :path, :size_bytes, :sha256, :media)
ON CONFLICT (job_seq, name) DO UPDATE
SET kind = excluded.kind, path = excluded.path, size_bytes = excluded.size_bytes, sha256 = excluded.sha256,
    media = excluded.media
