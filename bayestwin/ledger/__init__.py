"""All runs together: which there are, how two differ, whether their files are whole, and making one again."""
