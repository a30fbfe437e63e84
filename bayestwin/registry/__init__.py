"""Which run of each model is in use, on what evidence, and who decided that."""
