UPDATE stage SET state = 'interrupted', ended_at = :now WHERE job_seq = :job_seq AND state = 'running'
