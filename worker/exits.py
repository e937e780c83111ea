"""Exit codes of the engine's commands and the worker; the same numbers as `gpen-archive`'s own."""

NOT_ALL_FINE = 3
"""The command came to its end; photos failed or would, or something isn't as it was recorded."""
NONE_DELIVERED = 4
"""All of them did, or would."""
ENVIRONMENT = 5
"""The environment can't: weights, device, database or broker."""
