"""Alert and recording rules: Python that names metrics from the table, and what is made of it."""
