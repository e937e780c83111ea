"""What `--help` shows on a terminal of 80 columns, which README.md sends people to."""

import re
from importlib import import_module

import pytest
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from producer import plugins
from producer.cli import make_app
from producer.options import with_recipe
from worker.menu import COMMANDS


@pytest.fixture(scope="module")
def program():
    """The whole command line, with the engine's commands."""
    app = make_app()
    for module in sorted({module for module, _ in COMMANDS.values()}):
        import_module(module).register(app, with_recipe)
    return app


def each_command(command, *path):
    yield path, command
    if isinstance(command, TyperGroup):
        for name, one in command.commands.items():
            yield from each_command(one, *path, name)


def helped(program, path):
    result = CliRunner(env={"COLUMNS": "80"}).invoke(program, [*path, "--help"])
    assert result.exit_code == 0
    assert max(map(len, result.output.splitlines())) <= 80
    return result.output


def test_the_name_of_every_option_is_shown_whole(program):
    for path, command in each_command(get_command(program)):
        shown = set(re.findall(r"--[\w-]+(?![\w…-])", helped(program, path)))
        names = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
        assert {name for name in names if name.startswith("--")} <= shown, path


def test_what_a_command_is_for_is_shown_whole_in_the_list(program):
    listing = make_app()
    plugins.join(listing, None, with_recipe)  # as `gpen-archive --help` does: none is loaded
    for app, path in ((listing, ()), (program, ("weights",))):
        shown = " ".join(helped(app, path).split())
        command = get_command(app)
        for name in path:
            command = command.commands[name]
        for name, one in command.commands.items():
            said = one.help or COMMANDS[name][1]
            assert said.partition("\n\n")[0].replace("\n", " ") in shown, name
