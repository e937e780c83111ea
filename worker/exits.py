"""Exit codes of the worker process; the same numbers as those of `gpen-archive`."""

ENVIRONMENT = 5
"""The environment can't: weights, device, database or broker."""
