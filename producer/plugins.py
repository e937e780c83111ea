"""What others add to `gpen-archive`: the name of an entry-point group in, what it names out.

The engine's commands and checks live beside the worker and join here by entry point, so that the
control plane imports neither. Without the worker's extra they are missing, and that is said.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

import typer

MENUS = "gpen_archive.menus"
"""Each a mapping from a command's name to its module and the line that `--help` shows of it; the
module has `register`, a callable: Typer application, options.with_recipe."""
CHECKS = "gpen_archive.checks"
"""Each a callable: settings -> objects with name, ok and detail."""


@dataclass(frozen=True, slots=True)
class Missing:
    """An entry that can't be loaded here."""

    name: str
    reason: str

    def __str__(self) -> str:
        return (
            f"{self.name} can't be loaded here: {self.reason}; install what it needs, in a "
            "checkout of this project: pip install '.[worker]'"
        )


def join(
    app: typer.Typer, wanted: str | None, with_recipe: Callable[..., Callable[..., None]]
) -> list[Missing]:
    """Add the commands of all menus to the command line; return what can't be added.

    Only what is wanted is loaded, for torch takes its time; the others are there to be listed.
    """
    menus, missing = load(MENUS)
    offered = {name: entry for menu in menus for name, entry in menu.items()}
    if wanted is None or wanted not in offered:
        for name, (_, line) in offered.items():
            app.command(name, short_help=line)(lambda: None)
        return missing
    module, _ = offered[wanted]
    try:
        import_module(module).register(app, with_recipe)
    except ImportError as error:
        missing.append(Missing(wanted, str(error)))
    return missing


def load(group: str) -> tuple[list[Any], list[Missing]]:
    """Load a group's entries; one that can't be imported is reported, not raised."""
    loaded: list[Any] = []
    missing: list[Missing] = []
    for entry in sorted(entry_points(group=group)):
        try:
            loaded.append(entry.load())
        except (ImportError, AttributeError) as error:
            missing.append(Missing(entry.name, str(error)))
    return loaded, missing
