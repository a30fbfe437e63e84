"""The same model in a probabilistic programming language, for those who want to go on there."""
