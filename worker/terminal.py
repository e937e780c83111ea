"""What the engine's commands share to write on a terminal."""

import sys
from pathlib import Path

from rich.console import Console

_WIDTH_OF_A_PIPE = 160  # a table in a file needn't be squeezed into 80 columns


def output() -> Console:
    """Return the console for results."""
    return Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_PIPE)


def plain(text: str | Path) -> str:
    """Return a name from outside without what could steer a terminal."""
    return "".join(char if char.isprintable() else "\ufffd" for char in str(text))
