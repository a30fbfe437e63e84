"""What the commands print: short texts and tables for people. Numbers come from elsewhere."""
