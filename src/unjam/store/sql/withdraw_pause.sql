UPDATE job
SET requested = NULL, request_code = NULL, request_message = NULL
WHERE seq = :seq AND requested = 'pause'
