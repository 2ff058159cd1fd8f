SELECT name, paused_by FROM queue WHERE paused_by IS NOT NULL
