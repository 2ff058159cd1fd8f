DELETE FROM event WHERE job_seq IN (SELECT value FROM json_each(:seqs))
