UPDATE job SET lane_id = :lane_id, memory_bytes = :memory_bytes WHERE seq = :seq
