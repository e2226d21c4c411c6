"""From the API server come pod records, terminations and DRA devices; to it go Events."""
