"""Exercises, checkpoints, and what single pages do."""
