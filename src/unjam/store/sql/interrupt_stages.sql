UPDATE stage SET state = 'interrupted', ended_at = :stamp WHERE job_seq = :job_seq AND state = 'running'
