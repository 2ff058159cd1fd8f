INSERT INTO queue (name, paused_by) VALUES (:name, :by)
ON CONFLICT (name) DO UPDATE SET paused_by = excluded.paused_by
