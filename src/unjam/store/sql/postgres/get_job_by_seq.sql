SELECT seq, id, state, phase, requested, fence, finished_at FROM job WHERE seq = :seq
FOR NO KEY UPDATE
