INSERT INTO lane (queue, pipeline, priority)
VALUES (:queue, :pipeline, :priority)
ON CONFLICT (queue, pipeline, priority) DO NOTHING
