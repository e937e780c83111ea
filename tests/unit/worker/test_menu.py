from importlib import import_module

import pytest
import typer
from typer.main import get_command

from producer.options import with_recipe
from worker.menu import COMMANDS


@pytest.mark.parametrize("module", sorted({module for module, _ in COMMANDS.values()}))
def test_the_menu_says_of_each_command_what_its_own_help_says(module):
    app = typer.Typer()
    app.command("another")(lambda: None)
    import_module(module).register(app, with_recipe)
    commands = get_command(app).commands
    told = {
        name: command.help.partition("\n\n")[0].replace("\n", " ")
        for name, command in commands.items()
        if name != "another"
    }
    assert told == {name: line for name, (at, line) in COMMANDS.items() if at == module}
