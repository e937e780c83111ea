"""Where commands write: results to standard output, everything about them to standard error."""

import sys

from rich.console import Console

from producer.report import plain

_WIDTH_OF_A_PIPE = 160  # a table in a file needn't be squeezed into 80 columns


def output() -> Console:
    """Return the console for results."""
    return Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_PIPE)


def remarks() -> Console:
    """Return the console for progress, warnings and errors."""
    return Console(stderr=True, width=None if sys.stderr.isatty() else _WIDTH_OF_A_PIPE)


def say(text: str, *, to: Console | None = None) -> None:
    """Write a line as it is, neither wrapped nor styled; to standard output by default."""
    (to or output()).print(plain(text), markup=False, highlight=False, soft_wrap=True)


def complain(code: str, message: str, advice: str) -> None:
    """Write an error: its stable code, what happened, what to do."""
    console = remarks()
    say(f"gpen-archive: [{code}] {message}", to=console)
    say(f"  {advice}", to=console)
