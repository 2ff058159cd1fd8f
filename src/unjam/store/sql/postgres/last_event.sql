-- A transaction that is still open may write lower numbers than the highest one.
SELECT coalesce(max(id), 0) AS id FROM event WHERE id < event_horizon()
