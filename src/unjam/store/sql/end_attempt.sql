UPDATE attempt
SET state = :state, ended_at = :stamp, reason_code = :reason_code, reason_message = :reason_message,
    peak_rss_bytes = :peak_rss_bytes, cpu_seconds = :cpu_seconds, containment = coalesce(:containment, containment)
WHERE job_seq = :job_seq AND fence = :fence
