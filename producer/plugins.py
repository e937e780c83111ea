"""What others add to `gpen-archive`: the name of an entry-point group in, callables out.

The engine's commands and checks live beside the worker and join here by entry point, so that the
control plane imports neither. Without the worker's extra they are missing, and that is said.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

COMMANDS = "gpen_archive.commands"  # each a callable: Typer application, options.with_recipe
CHECKS = "gpen_archive.checks"  # each a callable: settings -> objects with name, ok and detail


@dataclass(frozen=True, slots=True)
class Missing:
    """An entry that can't be loaded here."""

    name: str
    reason: str

    def __str__(self) -> str:
        return (
            f"the parts of {self.name!r} (such as `restore`) are missing here: {self.reason}; "
            "install them with: pip install 'gpen-archive[worker]'"
        )


def load(group: str) -> tuple[list[Callable[..., Any]], list[Missing]]:
    """Load a group's entries; one that can't be imported is reported, not raised."""
    loaded: list[Callable[..., Any]] = []
    missing: list[Missing] = []
    for entry in sorted(entry_points(group=group)):
        try:
            loaded.append(entry.load())
        except (ImportError, AttributeError) as error:
            missing.append(Missing(entry.name, str(error)))
    return loaded, missing
