UPDATE worker SET expires_at = :now, draining = 1 WHERE id = :id
