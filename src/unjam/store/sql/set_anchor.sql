INSERT INTO meta (key, value)
VALUES ('clock', :boot || ' ' || :anchor)
ON CONFLICT (key) DO UPDATE SET value = excluded.value
