SELECT id FROM worker WHERE id = :id
