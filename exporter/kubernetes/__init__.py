"""Pod records, terminations and DRA devices from the API server. The only importer of kubernetes."""
