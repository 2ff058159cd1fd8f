UPDATE queue SET paused_by = NULL WHERE name = :name AND paused_by IS NOT NULL
