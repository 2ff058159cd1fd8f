UPDATE job
SET state = 'cancelling', phase = NULL, requested = 'cancel',
    request_code = :request_code, request_message = :request_message
WHERE seq = :seq
