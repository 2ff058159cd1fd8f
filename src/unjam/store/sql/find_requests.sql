SELECT id, fence, requested, request_code, request_message, lease_expires_at
FROM job
WHERE worker_id = :worker_id AND lease_expires_at IS NOT NULL AND requested IS NOT NULL
