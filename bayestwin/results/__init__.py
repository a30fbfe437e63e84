"""Results: their groups in ArviZ's schema, and files that are whole whatever happens."""
