SELECT id, seq FROM job WHERE id = ANY (ARRAY(SELECT json_array_elements_text(CAST(:ids AS json))))
