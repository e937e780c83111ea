import hashlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import typer

from jobs import broker
from jobs.errors import StoreFull
from jobs.ledger import Ledger
from jobs.schema import Candidate, Control, Counts, JobStatus, PhotoState, Standing
from producer import cli, local
from producer.cli import main
from producer.doctor import Check
from producer.errors import InstallationIncomplete
from producer.plugins import Missing
from producer.scan import Tally
from producer.submit import Submission
from producer.valkey import find_binary


@dataclass
class End:
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def no_plugins(monkeypatch) -> None:
    monkeypatch.setattr(cli.plugins, "load", lambda _: ([], []))


@pytest.fixture
def offer(monkeypatch) -> Callable[[Callable[[], object]], None]:
    """Put the command `restore` on a menu."""

    def offer(command: Callable[[], object]) -> None:
        module = ModuleType("engine_commands")
        module.register = lambda app, _with_recipe: app.command("restore")(command)
        monkeypatch.setitem(sys.modules, "engine_commands", module)
        menu = {"restore": ("engine_commands", "Restore one picture.")}
        monkeypatch.setattr(cli.plugins, "load", lambda _: ([menu], []))

    return offer


@pytest.fixture
def call(capsys) -> Callable[..., End]:
    def call(*arguments: object) -> End:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        return End(int(end.value.code or 0), *capsys.readouterr())

    return call


@pytest.fixture
def service(tmp_path, monkeypatch, ledger) -> Ledger:
    """Configure the database of service mode."""
    monkeypatch.setenv("GPEN_DATABASE_URL", f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    return ledger


@pytest.fixture
def masters(tmp_path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.jpg", "bad.jpg", "notes.txt"):
        (folder / name).write_bytes(b"x")
    return folder


@pytest.fixture
def failed_job(ledger, make_job):
    """Enter a job with one failed photo and one that waits."""
    job = make_job()
    ledger.add_job(job)
    ledger.add_photos(job.id, [Candidate("a.jpg", 1), Candidate("b.jpg", 1)])
    claim = ledger.claim(next(ledger.photos(job.id)).id, worker="w", lease_s=10)
    ledger.fail(claim, code="photo.empty", message="no bytes", advice="Copy it.", stage="decode")
    return job


def test_the_version_is_told(call):
    assert call("--version").out.startswith("gpen-archive ")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nonsense",),
        ("run", "in"),
        ("run", "in", "out", "--strength", "2"),
        ("run", "in", "out", "--strength", "nan"),
        ("run", "in", "out", "--output", "heic"),
        ("run", "in", "s3://out"),
    ],
)
def test_a_command_that_makes_no_sense_is_a_usage_error(call, arguments):
    assert call(*arguments).code == 2


def test_an_error_is_told_with_its_code_and_advice_and_without_a_traceback(call, tmp_path):
    end = call("run", tmp_path / "nowhere", tmp_path / "out")
    assert end.code == 2
    assert end.out == ""
    assert "[source.missing]" in end.err
    assert "Check the path" in end.err
    assert "Traceback" not in end.err


def test_a_fault_of_the_program_is_told_without_a_traceback_too(call, monkeypatch):
    monkeypatch.setattr(cli, "check_all", lambda _: 1 / 0)
    end = call("doctor")
    assert end.code == 1
    assert "[unexpected] ZeroDivisionError" in end.err
    assert "Traceback" not in end.err


def test_a_fault_of_the_program_is_traced_on_request(call, monkeypatch):
    monkeypatch.setenv("GPEN_LOG_LEVEL", "DEBUG")
    monkeypatch.setattr(cli, "check_all", lambda _: 1 / 0)
    assert "Traceback" in call("doctor").err


def test_a_wrong_setting_is_named_without_its_value(call, monkeypatch):
    monkeypatch.setenv("GPEN_WINDOW", "secret")
    end = call("status")
    assert end.code == 2
    assert "GPEN_WINDOW" in end.err
    assert "secret" not in end.err


@pytest.mark.parametrize(
    ("destination", "code"), [("in/out", 2), ("in", 2), (".", 2), ("/proc/out", 5)]
)
def test_a_destination_that_cannot_be_used_is_refused_before_anything_is_written(
    call, tmp_path, masters, destination, code
):
    before = sorted(tmp_path.rglob("*"))
    assert call("run", masters, tmp_path / destination).code == code
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("size", ["banana", "2 parrots", "0", "-1", "-2GB", ""])
def test_a_size_that_is_none_is_a_usage_error_before_anything_is_written(
    call, tmp_path, masters, monkeypatch, size
):
    monkeypatch.setattr(local, "run", lambda *_, **__: pytest.fail("a worker was started"))
    end = call("run", masters, tmp_path / "out", "--vram-limit", size)
    assert end.code == 2
    told = " ".join(end.err.replace("│", " ").split())
    assert "Invalid value for '--vram-limit'" in told
    assert f"{size!r} is no size above 0" in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("given", [("--vram-limit", "2GB"), ()])
def test_a_workers_size_and_plugin_are_handed_on_as_they_were_given(
    call, tmp_path, masters, monkeypatch, given
):
    started = []

    def run(job, *, worker_environment, **_: object) -> local.Ending:
        started.append((job.recipe.weights, worker_environment))
        raise InstallationIncomplete("no further than here")

    monkeypatch.setattr(local, "run", run)
    (tmp_path / "sharp.pth").write_bytes(b"tensors")
    weights = f"sharpener:{tmp_path / 'sharp.pth'}"
    if not given:
        monkeypatch.setenv("GPEN_VRAM_LIMIT", "2GB")
    call("run", masters, tmp_path / "out", "--weights", weights, *given)
    assert started == [
        (
            hashlib.sha256(b"tensors").hexdigest(),
            {"GPEN_WEIGHTS": weights, "GPEN_VRAM_LIMIT": "2GB"},
        )
    ]


def test_weights_that_are_not_there_are_refused_before_anything_is_written(call, tmp_path, masters):
    end = call("run", masters, tmp_path / "out", "--weights", "nowhere.pth")
    assert end.code == 2
    assert "[weights.missing]" in end.err
    assert not (tmp_path / "out").exists()


def test_a_source_without_photos_is_said_to_be_so_and_nothing_is_written(call, tmp_path):
    (tmp_path / "in").mkdir()
    end = call("run", tmp_path / "in", tmp_path / "out")
    assert end.code == 0
    assert "No photos found" in end.err
    assert not (tmp_path / "out").exists()


def test_photos_that_all_have_unusable_names_are_not_a_success(call, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a\\b.jpg").touch()
    end = call("run", tmp_path / "in", tmp_path / "out")
    assert end.code == 4
    assert "key.unsafe" in end.err


@pytest.fixture
def with_stub(monkeypatch, stub_worker) -> None:
    try:
        find_binary()
    except InstallationIncomplete as error:
        pytest.skip(str(error))
    monkeypatch.setattr(local, "run", partial(local.run, worker_command=stub_worker))


@pytest.mark.usefixtures("with_stub")
def test_a_run_ends_with_a_table_and_failures_can_be_looked_at_and_retried(call, tmp_path, masters):
    out = tmp_path / "out"
    end = call("run", masters, out)
    assert end.code == 3
    for part in ("photos 2 done 1 failed 1", "bad.jpg", "photo.corrupt", "scan", str(out), "--at"):
        assert part in " ".join(end.out.split())
    assert "passed over 1 file" in end.err

    told = json.loads(call("status", "--json", "--at", out).out)
    (job,) = told["jobs"]
    assert job["photos"]["failed"] == 1
    assert "1 photo of job" in call("retry", job["id"], "--at", out).out
    after = json.loads(call("status", job["id"], "--json", "--at", out).out)
    assert after["job"]["photos"]["pending"] == 1


@pytest.mark.parametrize(
    ("status", "words"), [("cancelled", "The job was cancelled."), ("active", "Interrupted.")]
)
def test_a_run_that_was_cancelled_says_so(call, tmp_path, masters, monkeypatch, status, words):
    def run(job, **_: object) -> local.Ending:
        control = Control(status=JobStatus(status))
        standing = Standing(job, control, Counts({PhotoState.PENDING: 1}))
        return local.Ending(Submission(job, new=1, known=0, tally=Tally()), standing, [])

    monkeypatch.setattr(local, "run", run)
    end = call("run", masters, tmp_path / "out")
    assert end.code == 130
    assert end.err.splitlines()[-1].startswith(words)


@pytest.mark.usefixtures("with_stub")
def test_a_run_with_always_has_no_hours_any_more(call, tmp_path, masters):
    out = tmp_path / "out"
    now = datetime.now().astimezone()
    open_now = f"{now:%H:%M}-{now - timedelta(minutes=2):%H:%M}"
    for hours, kept in ((open_now, open_now), ("always", None)):
        assert call("run", masters, out, "--window", hours).code == 3
        told = json.loads(call("status", "--json", "--at", out).out)
        assert [job["window"] for job in told["jobs"]] == [kept]


@pytest.mark.usefixtures("with_stub")
def test_a_full_disk_is_told_with_its_advice_and_how_the_job_stands(call, tmp_path, masters):
    (masters / "full.jpg").touch()
    end = call("run", masters, tmp_path / "out")
    assert end.code == 5
    assert "photos 3 pending 1 done 1 failed 1" in " ".join(end.out.split())
    assert end.err.splitlines()[-3:] == [
        "Broken off. Once the cause is mended, the same command goes on.",
        "gpen-archive: [store.full] no room",
        f"  {StoreFull.advice}",
    ]


def test_ctrl_c_in_a_terminal_ends_a_run_with_its_exit_code(
    tmp_path, masters, stub_run, eventually
):
    for name in ("slow.jpg", "z.jpg"):
        (masters / name).touch()
    try:
        ours, theirs = pty.openpty()
    except OSError as error:
        pytest.skip(f"this machine gives no terminal: {error}")
    command = [*stub_run, str(masters), str(tmp_path / "out")]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as process:
        os.close(theirs)
        seen = bytearray()

        def reads(words: bytes) -> bool:
            try:
                seen.extend(os.read(ours, 65536))
            except OSError:  # the other side is closed
                assert words in seen, seen.decode(errors="replace")
            return words in seen

        eventually(lambda: reads(b"2 of 4 photos"))
        os.killpg(process.pid, signal.SIGINT)
        eventually(lambda: reads(b"Stopping"))
        (masters / ".go").touch()
        eventually(lambda: reads(b"\n") and process.poll() is not None)
        os.close(ours)
    assert process.returncode == 130


def test_a_broken_ledger_ends_a_command_with_the_environments_exit_code(
    call, tmp_path, monkeypatch
):
    (tmp_path / "ledger.sqlite3").write_bytes(b"not a database, but long enough" * 100)
    monkeypatch.setenv("GPEN_DATABASE_URL", f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    end = call("status")
    assert end.code == 5
    assert "[database.unavailable]" in end.err


def test_migrating_makes_a_database_that_can_be_asked(call, tmp_path, monkeypatch):
    monkeypatch.setenv("GPEN_DATABASE_URL", f"sqlite:///{tmp_path / 'new.sqlite3'}")
    assert call("status").code == 5
    assert call("migrate").code == 0
    assert json.loads(call("status", "--json").out) == {"schema_version": 1, "jobs": []}


@pytest.mark.usefixtures("service")
def test_submitting_enters_a_job_once(call, ledger, tmp_path, masters):
    for _ in range(2):
        end = call("submit", masters, tmp_path / "out", "--name", "June", "--max-faces", 3)
        assert end.code == 0
        assert "(June): 2 photos" in end.out
    (job,) = ledger.jobs()
    assert (job.name, job.recipe.max_faces) == ("June", 3)
    assert ledger.counts(job.id).total == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("service")
def test_a_known_name_in_another_case_is_the_same_job(call, ledger, tmp_path, masters):
    for weights in ("compact", "Compact"):
        assert call("submit", masters, tmp_path / "out", "--weights", weights).code == 0
    (job,) = ledger.jobs()
    assert job.recipe.weights == "compact"


@pytest.mark.usefixtures("service")
def test_a_photo_that_could_not_be_entered_makes_a_submission_a_partial_one(
    call, tmp_path, masters
):
    (masters / "a\\b.jpg").touch()
    assert call("submit", masters, tmp_path / "out").code == 3


@pytest.mark.usefixtures("service")
def test_status_lists_jobs_for_people(call, failed_job):
    end = call("status")
    assert end.code == 0
    assert failed_job.id in end.out


@pytest.mark.usefixtures("service")
def test_status_of_a_job_lists_its_failures(call, failed_job):
    for name in (failed_job.id, failed_job.id[:6], "album"):
        end = call("status", name)
        assert "photo.empty" in end.out
        assert "Copy it." in end.out


@pytest.mark.usefixtures("service", "failed_job")
def test_a_job_that_nobody_knows_is_a_usage_error(call):
    end = call("status", "nothing")
    assert end.code == 2
    assert "[job.unknown]" in end.err


def test_a_destination_without_a_run_is_a_usage_error(call, tmp_path):
    end = call("status", "--at", tmp_path)
    assert end.code == 2
    assert "those of a `run` with `--at DST`" in end.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("service")
def test_only_failures_with_the_given_code_are_retried(call, failed_job):
    end = call("retry", failed_job.id, "--code", "photo.empty")
    assert end.code == 0
    assert end.out.startswith("1 photo")


@pytest.mark.usefixtures("service")
def test_a_code_that_no_photo_has_is_refused_with_those_there_are(call, failed_job):
    end = call("retry", failed_job.id, "--code", "photo.corrupt")
    assert end.code == 2
    assert "[code.unknown]" in end.err
    assert "photo.empty (1)" in end.err


@pytest.mark.usefixtures("service", "failed_job")
def test_a_job_is_paused_cancelled_and_resumed(call, ledger):
    for command, status in (("pause", "paused"), ("cancel", "cancelled"), ("resume", "active")):
        assert call(command, "album").code == 0
        told = json.loads(call("status", "album", "--json").out)
        assert told["job"]["status"] == status
        assert ledger.publish_next(5) == [] or status == "active"


@pytest.mark.usefixtures("service")
def test_a_job_gets_a_priority_and_hours(call, ledger, failed_job):
    assert call("priority", "album", "7").code == 0
    assert call("window", "album", "22:00-06:00").out.endswith("runs 22:00-06:00.\n")
    control = ledger.standing(failed_job.id).control
    assert (control.priority, str(control.hours)) == (7, "22:00-06:00")
    call("window", "album", "always")
    assert ledger.standing(failed_job.id).control.hours is None


@pytest.mark.usefixtures("service", "failed_job")
def test_a_negative_priority_can_be_given(call):
    assert call("priority", "album", "--", "-3").out.endswith("priority -3.\n")


@pytest.mark.usefixtures("service", "failed_job")
@pytest.mark.parametrize("hours", ["22-6", "25:00-06:00", "06:00-06:00", "tonight"])
def test_hours_that_are_none_are_a_usage_error(call, tmp_path, masters, hours):
    assert call("window", "album", hours).code == 2
    assert call("submit", masters, tmp_path / "out", "--window", hours).code == 2


@pytest.mark.usefixtures("service")
def test_a_job_is_submitted_with_hours_and_priority_and_told_others_later(
    call, ledger, tmp_path, masters
):
    for hours, priority in (("22:00-06:00", "5"), ("20:00-04:00", "-5")):
        given = ("--window", hours, "--priority", priority)
        assert call("submit", masters, tmp_path / "out", *given).code == 0
        [standing] = ledger.standings()
        assert (str(standing.control.hours), standing.control.priority) == (hours, int(priority))
        assert not standing.control.open


@pytest.mark.usefixtures("service")
def test_submitting_with_always_takes_the_hours_away(call, ledger, tmp_path, masters):
    for hours in ("22:00-06:00", "always"):
        assert call("submit", masters, tmp_path / "out", "--window", hours).code == 0
    [standing] = ledger.standings()
    assert standing.control.hours is None
    assert standing.control.open


@pytest.mark.usefixtures("service", "failed_job")
def test_one_pass_of_dispatch_publishes_and_tells(call, monkeypatch):
    sent = []
    monkeypatch.setattr(broker, "publish", lambda _, refs: sent.extend(refs))
    monkeypatch.setattr(broker, "waiting", lambda _: {})
    monkeypatch.setattr(broker, "recognize", lambda _: True)
    assert call("dispatch", "--once").out == "1 published, 0 requeued, 0 given up\n"
    assert [ref.key for ref in sent] == ["b.jpg"]


@pytest.mark.usefixtures("service", "failed_job")
def test_one_pass_of_dispatch_without_a_broker_fails(call, monkeypatch, tmp_path):
    monkeypatch.setenv("GPEN_BROKER_URL", f"redis+socket://{tmp_path}/nobody.sock")
    end = call("dispatch", "--once")
    assert end.code == 5
    assert "[broker.unavailable]" in end.err


@pytest.mark.usefixtures("service", "failed_job")
def test_dispatch_runs_until_it_is_stopped_which_is_a_normal_end(call, monkeypatch):
    monkeypatch.setattr(broker, "waiting", lambda _: {})
    monkeypatch.setattr(broker, "recognize", lambda _: True)
    monkeypatch.setattr(broker, "publish", lambda _app, _refs: os.kill(os.getpid(), signal.SIGTERM))
    assert call("dispatch").code == 0


def test_the_engines_commands_join_the_others(call, offer):
    offer(lambda: typer.echo("restored"))
    assert call("restore").out == "restored\n"


def test_the_engines_commands_are_listed_without_being_loaded(call, monkeypatch):
    menu = {"restore": ("not_installed_here", "Restore one picture.")}
    monkeypatch.setattr(cli.plugins, "load", lambda _: ([menu], []))
    end = call("--help")
    assert end.code == 0
    assert "Restore one picture." in end.out


def test_a_command_that_cannot_be_loaded_is_said_to_be_so_with_a_remedy(call, monkeypatch):
    menu = {"restore": ("not_installed_here", "Restore one picture.")}
    monkeypatch.setattr(cli.plugins, "load", lambda _: ([menu], []))
    end = call("restore", "a", "b")
    assert end.code == 2
    for part in ("not_installed_here", "pip install '.[worker]'"):
        assert part in end.err


def test_without_the_engine_the_missing_commands_are_named(call, monkeypatch):
    missing = Missing("engine", "No module named 'worker'")
    monkeypatch.setattr(cli.plugins, "load", lambda _: ([], [missing]))
    end = call("restore", "a", "b")
    assert end.code == 2
    assert "pip install '.[worker]'" in end.err


@pytest.mark.parametrize(
    "command", [["--help"], ["status"], ["pause", "nothing"], ["submit", "--help"]]
)
def test_commands_of_the_control_plane_load_neither_torch_nor_celery(command):
    # What they would need seconds for, by module: a pause has to be heard at once.
    program = (
        "import sys\n"
        "from producer.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: print(*sorted({'torch', 'numpy', 'celery', 'boto3'} & {*sys.modules}))"
    )
    line = [sys.executable, "-c", program, *command]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""


def test_an_error_of_the_engine_is_told_like_our_own(call, offer):
    class CheckpointCorrupt(Exception):
        code = "weights.corrupt"
        advice = "Fetch it again."

    def fail() -> None:
        raise CheckpointCorrupt("it was cut")

    offer(fail)
    end = call("restore")
    assert end.code == 5
    assert "[weights.corrupt] it was cut" in end.err
    assert "Fetch it again." in end.err


def test_sigterm_ends_any_command_as_ctrl_c_does(call, offer):
    def wait() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()

    offer(wait)
    assert call("restore").code == 130


def test_doctor_fails_where_something_is_wrong(call, monkeypatch):
    monkeypatch.setattr(
        cli, "check_all", lambda _: [Check("a", True, "[detail]"), Check("b", False, "[detail]")]
    )
    end = call("doctor")
    assert end.code == 5
    assert end.out.splitlines() == ["ok  a: [detail]", "BAD b: [detail]"]
