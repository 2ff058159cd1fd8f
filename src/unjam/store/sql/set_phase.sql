UPDATE job SET phase = :phase WHERE seq = :seq
