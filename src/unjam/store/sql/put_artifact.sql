INSERT OR REPLACE INTO artifact (job_seq, name, kind, path, size_bytes, sha256, media)
VALUES (:job_seq, :name, :kind, :path, :size_bytes, :sha256, :media)
