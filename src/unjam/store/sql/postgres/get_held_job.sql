SELECT seq, phase FROM job WHERE id = :id AND fence = :fence AND lease_expires_at IS NOT NULL
FOR NO KEY UPDATE
