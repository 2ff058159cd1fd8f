SELECT seq FROM job WHERE seq = :seq AND state = 'running'
