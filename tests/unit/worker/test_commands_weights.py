"""`gpen-archive weights`: what a user sees and finds afterwards."""

import hashlib
import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from gpen_engine import inventory, weights
from gpen_engine.errors import CheckpointCorrupt, CheckpointError, TermsNotAccepted
from gpen_engine.registry import COMPACT, GPEN_TERMS, KnownWeights
from gpen_engine.weights import KNOWN, How, acceptance, terms_accepted
from jobs.errors import SettingsInvalid, SourceMissing
from tests.unit.gpen_engine.publisher import CONTENT, publishing, status
from worker import commands_weights

ASKING_CONTENT = CONTENT[::-1]


@pytest.fixture
def publisher():
    with publishing() as running:
        yield running


@pytest.fixture
def asking(publisher):
    """Weights with GPEN's terms; the publisher gives them when it is told to."""
    return KnownWeights(
        "asking",
        ("asking.pth",),
        hashlib.sha256(ASKING_CONTENT).hexdigest(),
        GPEN_TERMS,
        ask=True,
        size_bytes=len(ASKING_CONTENT),
        licence="none",
        address=f"{publisher.address}/asking.pth",
    )


@pytest.fixture
def registered(monkeypatch, publisher, asking):
    """Put fakes into the registry's place."""
    known = (COMPACT, publisher.known(), asking)
    for module in (weights, inventory, commands_weights):
        monkeypatch.setattr(module, "KNOWN", known)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("GPEN_WEIGHTS_DIR", str(tmp_path / "weights"))
    return tmp_path / "weights"


@pytest.fixture
def command(request):
    """`gpen-archive weights ...` with fakes and a folder of its own; what it raises comes out."""
    request.getfixturevalue("registered")
    request.getfixturevalue("folder")
    app = typer.Typer()
    app.callback()(lambda: None)
    commands_weights.register(app)

    def call(*arguments, answer=None, failing=False):
        result = CliRunner().invoke(app, ["weights", *map(str, arguments)], input=answer)
        raised = result.exception if not isinstance(result.exception, SystemExit) else None
        if raised and not failing:
            raise raised
        return result

    return call


def test_the_list_tells_what_each_is_for_its_licence_size_and_state(command, folder):
    folder.mkdir()
    (folder / "old-fake.pth").write_bytes(CONTENT)

    lines = command("list").stdout.splitlines()

    row = {line.split()[0]: " ".join(line.split()) for line in lines}
    assert row["compact"] == "compact face network Apache-2.0 9.2 MB comes with gpen-archive"
    assert row["fake"] == "fake parser MIT 1.0 MB here"
    assert row["asking"] == "asking face network none 1.0 MB can be fetched, terms to accept"


def test_the_list_for_programs_has_it_all(command, folder, asking):
    weights.accept(folder, asking, How.TERMINAL)

    told = json.loads(command("list", "--json").stdout)

    assert (told["schema_version"], told["folder"]) == (1, str(folder))
    entries = {entry["name"]: entry for entry in told["weights"]}
    assert entries["compact"]["where"] == "shipped"
    assert entries["fake"]["where"] == "fetchable"
    assert entries["fake"]["path"] is None
    assert entries["fake"]["accepted"] is None
    assert entries["asking"]["sha256"] == asking.sha256
    assert entries["asking"]["terms"] == GPEN_TERMS
    assert entries["asking"]["accepted"]["how"] == "terminal"


def test_the_list_says_when_terms_were_accepted(command, folder, asking):
    made = weights.accept(folder, asking, How.TERMINAL)

    assert f"terms accepted on {made.accepted_at[:10]}" in command("list").stdout


def test_weights_are_fetched_by_name_and_their_path_is_the_result(command, folder):
    result = command("fetch", "FAKE")

    assert result.stdout == f"{folder}/fake.pth: fake, MIT\n"
    assert (folder / "fake.pth").read_bytes() == CONTENT
    assert command("fetch", "fake").stdout == result.stdout


def test_the_folder_can_be_another_than_the_environments(command, folder, tmp_path):
    command("fetch", "fake", "--folder", tmp_path / "other")

    assert (tmp_path / "other" / "fake.pth").exists()
    assert not folder.exists()


def test_the_usual_folder_is_used_where_none_is_named(command, monkeypatch, tmp_path):
    monkeypatch.delenv("GPEN_WEIGHTS_DIR")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))

    command("fetch", "fake")

    assert (tmp_path / "gpen-archive" / "weights" / "fake.pth").exists()


def homeless():
    raise RuntimeError("nobody knows his home")


def test_without_any_folder_the_setting_is_named(command, monkeypatch):
    monkeypatch.delenv("GPEN_WEIGHTS_DIR")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)

    with pytest.raises(CheckpointError, match="GPEN_WEIGHTS_DIR"):
        command("list")


def test_a_setting_that_makes_no_sense_is_named(command, monkeypatch):
    monkeypatch.setenv("GPEN_LANES", "none")

    with pytest.raises(SettingsInvalid, match="GPEN_LANES"):
        command("list")


def test_the_bar_moves_on_a_terminal_only(publisher, monkeypatch, capsys):
    drawn = []
    monkeypatch.setattr(
        commands_weights.Progress,
        "update",
        lambda _self, _task, **how: drawn.append(how["completed"]),
    )

    with commands_weights._bar(publisher.known()) as progress:
        progress(7, 9)

    assert drawn == [7]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["nonsense", "compact"])
def test_a_name_that_cannot_be_fetched_is_a_usage_error_before_anything_is_fetched(
    command, name, folder
):
    result = command("fetch", "fake", name)

    assert result.exit_code == 2
    assert "fake, asking" in " ".join(result.stderr.replace("\u2502", " ").split())
    assert not folder.exists()


def test_a_fetch_that_fails_raises_why(command, publisher):
    publisher.answers = [status(404)]

    with pytest.raises(CheckpointError, match="404"):
        command("fetch", "fake")


def test_terms_are_shown_and_nothing_comes_while_nobody_answers(command, publisher, folder):
    result = command("fetch", "asking", failing=True)

    assert isinstance(result.exception, TermsNotAccepted)
    assert "--accept-terms" in str(result.exception)
    assert GPEN_TERMS in result.stderr
    assert publisher.ranges == []
    assert not folder.exists()


def test_all_terms_are_settled_before_the_first_download(command, publisher):
    with pytest.raises(TermsNotAccepted):
        command("fetch", "fake", "asking")

    assert publisher.ranges == []


def test_terms_accepted_by_flag_are_recorded_and_not_asked_for_again(
    command, publisher, folder, asking
):
    publisher.content = ASKING_CONTENT

    command("fetch", "asking", "--accept-terms")
    (folder / "asking.pth").unlink()
    command("fetch", "asking")

    assert (folder / "asking.pth").read_bytes() == ASKING_CONTENT
    assert acceptance(folder, asking.sha256).how is How.FLAG


@pytest.fixture
def terminal(monkeypatch):
    """Somebody in front of the screen."""
    monkeypatch.setattr(commands_weights, "_somebody_is_there", lambda: True)


@pytest.mark.usefixtures("terminal")
def test_terms_accepted_on_the_terminal_are_recorded(command, publisher, folder, asking):
    publisher.content = ASKING_CONTENT

    result = command("fetch", "asking", answer="y\n")

    assert "Do you accept these terms? [y/N]" in result.stderr
    assert result.stdout.endswith(f"{folder}/asking.pth: asking, none\n")
    assert acceptance(folder, asking.sha256).how is How.TERMINAL


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("answer", ["n\n", "\n"])
def test_terms_declined_on_the_terminal_keep_the_weights_out(command, publisher, folder, answer):
    with pytest.raises(TermsNotAccepted):
        command("fetch", "asking", answer=answer)

    assert publisher.ranges == []
    assert not folder.exists()


def test_the_environment_accepts_gpens_terms(command, publisher, folder, asking, monkeypatch):
    monkeypatch.setenv("GPEN_ACCEPT_GPEN_TERMS", "true")
    publisher.content = ASKING_CONTENT

    command("fetch", "asking")

    assert acceptance(folder, asking.sha256).how is How.ENVIRONMENT


def test_the_environment_accepts_nobody_elses_terms(command, monkeypatch, publisher):
    monkeypatch.setenv("GPEN_ACCEPT_GPEN_TERMS", "true")
    other = (publisher.known(ask=True, terms="another licence"),)
    for module in (weights, inventory, commands_weights):
        monkeypatch.setattr(module, "KNOWN", other)

    with pytest.raises(TermsNotAccepted):
        command("fetch", "fake")


def test_what_the_user_has_is_imported_whatever_its_name(command, folder, tmp_path, asking):
    (tmp_path / "Download (1).bin").write_bytes(ASKING_CONTENT)

    result = command("import", tmp_path / "Download (1).bin", "--accept-terms")

    assert result.stdout == f"{folder}/asking.pth: asking, none\n"
    assert (folder / "asking.pth").read_bytes() == ASKING_CONTENT
    assert terms_accepted(folder, asking)


def test_an_import_asks_for_terms_too(command, folder, tmp_path):
    (tmp_path / "mine.pth").write_bytes(ASKING_CONTENT)

    with pytest.raises(TermsNotAccepted):
        command("import", tmp_path / "mine.pth")

    assert not folder.exists()


def test_an_unknown_file_is_not_imported(command, folder, tmp_path):
    (tmp_path / "mine.pth").write_bytes(b"my own")

    with pytest.raises(CheckpointError, match="none of the known weights"):
        command("import", tmp_path / "mine.pth")

    assert not folder.exists()


def test_a_missing_file_to_import_is_a_missing_source(command, tmp_path):
    with pytest.raises(SourceMissing, match=r"gone\.pth"):
        command("import", tmp_path / "gone.pth")


def test_whole_files_verify(command, folder):
    command("fetch", "fake")
    (folder / "mine.pth").write_bytes(b"my own")

    assert command("verify").stdout == "fake.pth: ok, fake\nmine.pth: unknown; used by its path\n"


def test_damage_is_told_file_by_file_and_then_raised(command, folder):
    command("fetch", "fake")
    (folder / "asking.pth").write_bytes(b"cut off")

    result = command("verify", failing=True)

    assert "asking.pth: damaged" in result.stdout
    assert "fake.pth: ok, fake" in result.stdout
    assert isinstance(result.exception, CheckpointCorrupt)
    assert "asking.pth" in str(result.exception)
    assert "fake.pth" not in str(result.exception)


def test_verification_for_programs_raises_too(command, folder):
    folder.mkdir()
    (folder / "fake.pth").write_bytes(b"cut off")

    result = command("verify", "--json", failing=True)

    (file,) = json.loads(result.stdout)["files"]
    assert file["file"] == "fake.pth"
    assert file["verdict"] == "damaged"
    assert file["name"] == "fake"
    assert file["sha256"] == hashlib.sha256(b"cut off").hexdigest()
    assert isinstance(result.exception, CheckpointCorrupt)


def test_a_file_name_cannot_steer_the_terminal(command, folder):
    folder.mkdir()
    (folder / "a\x1b[2Jb.pth").write_bytes(b"my own")

    assert "\x1b" not in command("verify").stdout


def test_an_empty_folder_is_no_damage(command):
    assert command("verify").stdout == ""


@pytest.mark.usefixtures("folder")
def test_every_real_entry_fits_the_list():
    app = typer.Typer()
    app.callback()(lambda: None)
    commands_weights.register(app)

    shown = CliRunner().invoke(app, ["weights", "list"]).stdout

    assert all(f"{known.name} " in shown for known in KNOWN)
    assert len(shown.splitlines()) == len(KNOWN) + 1
