"""Pod records, terminations, DRA devices: from the API server, by its own client alone."""
