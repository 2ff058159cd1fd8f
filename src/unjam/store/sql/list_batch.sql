SELECT id FROM job WHERE batch_seq = :batch_seq ORDER BY seq
