"""HTTP: routes, keys, bodies under a limit, errors to a status, health. What is ranked, and how, is decided elsewhere."""
