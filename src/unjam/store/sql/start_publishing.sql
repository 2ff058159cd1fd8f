UPDATE job
SET phase = 'publishing', requested = NULL, request_code = NULL, request_message = NULL
WHERE seq = :seq
