UPDATE job_detail SET spec = json_set(spec, '$.inputs', json(:inputs)) WHERE job_seq = :job_seq
