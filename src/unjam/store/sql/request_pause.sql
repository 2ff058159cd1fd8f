UPDATE job
SET requested = 'pause', request_code = :request_code, request_message = :request_message
WHERE seq = :seq
