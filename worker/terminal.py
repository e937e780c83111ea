"""What the engine's commands share to write on a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_WIDTH_OF_A_PIPE = 160  # a table in a file needn't be squeezed into 80 columns


def output() -> Console:
    """Return the console for results."""
    return Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_PIPE)


@contextmanager
def bar(what: str) -> Iterator[Callable[[int], None]]:
    """Show a bar on the terminal, and nothing where there is none.

    What it gives is called after each photo with how many there are.
    """
    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, disable=not console.is_terminal, transient=True
    ) as progress:
        task = progress.add_task(what, total=None)
        yield lambda total: progress.update(task, advance=1, total=total)


def plain(text: str | Path) -> str:
    """Return a name from outside without what could steer a terminal."""
    return "".join(char if char.isprintable() else "\ufffd" for char in str(text))
