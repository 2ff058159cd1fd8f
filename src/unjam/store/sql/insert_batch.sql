INSERT INTO batch (id, source, created_at) VALUES (?, ?, ?) ON CONFLICT (id) DO NOTHING
