SELECT 1 AS found FROM attachment WHERE expires_at <= :now LIMIT 1
