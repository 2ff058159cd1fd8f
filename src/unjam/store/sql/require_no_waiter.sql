SELECT 1 AS free WHERE NOT EXISTS (SELECT 1 FROM dependency WHERE after_id = :id AND NOT satisfied)
