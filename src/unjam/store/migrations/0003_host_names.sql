-- `host` holds the id of a machine from now on: two may have one name. The name stays for people.
ALTER TABLE worker ADD COLUMN host_name TEXT NOT NULL DEFAULT '';
ALTER TABLE attempt ADD COLUMN host_name TEXT NOT NULL DEFAULT '';
UPDATE worker SET host_name = host;
UPDATE attempt SET host_name = host;

-- A SQLite file is used by one machine, so its units lie here. Under its old name none would be found again.
UPDATE unit SET host = NULL WHERE host IS NOT NULL;
