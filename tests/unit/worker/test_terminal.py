"""What commands show on a terminal."""

import io

import pytest
from rich.console import Console

from worker import terminal


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_bar_counts_photos_on_a_terminal_and_only_there(monkeypatch, is_terminal):
    written = io.StringIO()
    console = Console(file=written, force_terminal=is_terminal, width=80)
    monkeypatch.setattr(terminal, "Console", lambda **_: console)
    with terminal.bar("photos") as step:
        step(3)
        step(3)
    assert ("photos" in written.getvalue()) is is_terminal
    assert ("2/3" in written.getvalue()) is is_terminal
