SELECT seq FROM job WHERE seq = :seq AND id = :id AND fence = :fence AND lease_expires_at IS NOT NULL
FOR NO KEY UPDATE
