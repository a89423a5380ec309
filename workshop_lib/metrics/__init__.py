"""Arithmetic on what was recorded: time stamps, tokens and joules become metrics, rows and comparisons. Pure."""
