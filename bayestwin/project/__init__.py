"""Batch runs: a model folder and its job in, a run folder with posterior, predictions, report and record out."""
