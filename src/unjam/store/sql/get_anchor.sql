SELECT substr(value, length(:boot) + 2) AS anchor
FROM meta
WHERE key = 'clock' AND substr(value, 1, length(:boot) + 1) = :boot || ' '
