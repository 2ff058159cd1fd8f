SELECT id FROM lane WHERE queue = :queue AND pipeline = :pipeline AND priority = :priority
