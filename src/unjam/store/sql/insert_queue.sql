INSERT INTO queue (name) VALUES (:name) ON CONFLICT (name) DO NOTHING
