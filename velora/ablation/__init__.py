"""Ablations: a grid of settings, a run for each row, one table."""
