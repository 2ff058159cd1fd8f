SELECT seq, id FROM batch WHERE id = :id
