"""Exit codes of the worker process; the same numbers as those of `gpen-archive`."""

ENVIRONMENT = 5
"""The environment can't: weights, device, database or broker."""
FINDINGS = 3
"""What was delivered isn't as it was recorded."""
SOME_FAILED = 3
"""Some photos failed, or would."""
NONE_DELIVERED = 4
"""All of them did, or would."""
