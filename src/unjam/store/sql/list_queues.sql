SELECT name, paused_by FROM queue ORDER BY name
