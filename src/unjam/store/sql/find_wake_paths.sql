SELECT wake_path FROM worker WHERE wake_path IS NOT NULL AND expires_at > :now
