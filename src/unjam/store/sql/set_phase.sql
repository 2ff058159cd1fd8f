-- A late picture must not take a job back from the point of no return, nor out of `cancelling` (no phase).
UPDATE job SET phase = :phase WHERE seq = :seq AND phase NOT IN ('publishing', :phase)
