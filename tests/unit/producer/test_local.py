import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from jobs.errors import PhotoCrashesWorker, StoreFull
from jobs.home import Home
from jobs.hours import Hours
from jobs.ledger import Ledger
from jobs.schema import Control, Counts, JobStatus, PhotoState
from jobs.settings import JobSettings
from jobs.storage import DirectoryStore
from producer import local
from producer.errors import (
    DestinationTaken,
    InstallationIncomplete,
    WorkerFailed,
    WorkerStopped,
)
from producer.exits import ExitCode
from producer.local import BrokenOff, Ending, Worker
from producer.stop import StopRequest
from producer.valkey import find_binary

NO_WORKER = ("/bin/false",)


@pytest.fixture(autouse=True)
def needs_valkey() -> None:
    try:
        find_binary()
    except InstallationIncomplete as error:
        pytest.skip(str(error))


class Onlooker:
    """Remembers what it was told; may do something when it sees certain counts."""

    def __init__(self) -> None:
        self.seen: list[Counts] = []
        self.stops = 0
        self.told: list[Control] = []
        self.when: Callable[[Counts], bool] = lambda _: False
        self.then: Callable[[], object] = lambda: None
        self.at_stop: Callable[[], object] = lambda: None

    def entered(self, submission) -> None:
        pass

    def progress(self, counts: Counts) -> None:
        self.seen.append(counts)
        if self.when(counts):
            self.then()

    def control(self, control: Control) -> None:
        if not self.told or self.told[-1] != control:
            self.told.append(control)

    def stopping(self) -> None:
        self.stops += 1
        self.at_stop()


@pytest.fixture
def onlooker() -> Onlooker:
    return Onlooker()


@pytest.fixture
def masters(tmp_path) -> Callable[..., Path]:
    def make(*names: str) -> Path:
        folder = tmp_path / "in"
        folder.mkdir(exist_ok=True)
        for name in names:
            (folder / name).write_bytes(b"master")
        return folder

    return make


@pytest.fixture
def children_before(children_of) -> list[int]:
    """Processes that were there before the test, such as the session's services."""
    return children_of(os.getpid())


@pytest.fixture
def run(tmp_path, make_job, onlooker, stub_worker) -> Callable[..., Ending]:
    def run(*, worker_command=stub_worker, hours=None, **recipe) -> Ending:
        source = tmp_path / "in"
        return local.run(
            make_job(source=str(source), destination=str(tmp_path / "out"), **recipe),
            source=DirectoryStore(source),
            settings=JobSettings(max_attempts=2),
            worker_environment={"GPEN_WEIGHTS": "compact"},
            watcher=onlooker,
            hours=hours,
            worker_command=worker_command,
        )

    return run


def is_gone(process: int) -> bool:
    return not Path(f"/proc/{process}").exists()


def in_the_middle(counts: Counts) -> bool:
    return counts.of(PhotoState.DONE) == 2 and counts.of(PhotoState.CLAIMED) == 1


def delivered(tmp_path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "out").glob("*.restored"))


def test_all_photos_are_delivered_and_nothing_is_left_running(
    children_before, run, masters, tmp_path, onlooker, children_of
):
    masters("a.jpg", "b.jpg", "bad.jpg")
    ending = run()
    assert ending.exit_code is ExitCode.SOME_FAILED
    assert [failure.code for failure in ending.failures] == ["photo.corrupt"]
    assert delivered(tmp_path) == ["a.jpg.restored", "b.jpg.restored"]
    assert onlooker.seen[-1].finished == 3
    assert children_of(os.getpid()) == children_before


def test_a_finished_job_starts_no_worker_when_it_is_run_again(run, masters):
    masters("a.jpg")
    run()
    assert run(worker_command=NO_WORKER).exit_code is ExitCode.DONE


def test_a_photo_that_kills_its_worker_is_given_up_and_the_others_are_delivered(
    run, masters, tmp_path
):
    masters("a.jpg", "killer.jpg", "z.jpg")
    ending = run()
    assert [(failure.key, failure.code) for failure in ending.failures] == [
        ("killer.jpg", PhotoCrashesWorker.code)
    ]
    assert delivered(tmp_path) == ["a.jpg.restored", "z.jpg.restored"]


def test_what_an_emptied_broker_had_is_restored_all_the_same(run, masters, tmp_path, onlooker):
    masters("a.jpg", "emptier.jpg", *(f"x{number}.jpg" for number in range(5)))
    too_late = time.monotonic() + 60
    onlooker.when = lambda _counts: time.monotonic() > too_late
    onlooker.then = lambda: os.kill(os.getpid(), signal.SIGTERM)
    assert run().exit_code is ExitCode.DONE
    assert len(delivered(tmp_path)) == 7


def test_a_signal_lets_the_photo_in_hand_finish_and_the_next_run_does_the_rest(
    children_before, run, masters, tmp_path, onlooker, children_of
):
    source = masters("a.jpg", "b.jpg", "slow.jpg", "z.jpg")
    onlooker.when = in_the_middle
    onlooker.then = lambda: os.kill(os.getpid(), signal.SIGTERM)
    onlooker.at_stop = (source / ".go").touch
    ending = run()
    assert ending.exit_code is ExitCode.INTERRUPTED
    assert onlooker.stops == 1
    assert "slow.jpg.restored" in delivered(tmp_path)
    assert ending.counts.of(PhotoState.PUBLISHED, PhotoState.CLAIMED) == 0
    assert children_of(os.getpid()) == children_before

    onlooker.when = lambda _: False
    assert run().exit_code is ExitCode.DONE
    assert len(delivered(tmp_path)) == 4


def test_a_run_that_is_cancelled_ends_and_the_same_run_again_takes_it_up(
    run, masters, tmp_path, onlooker
):
    source = masters("a.jpg", "slow.jpg", "z.jpg")

    def cancel() -> None:
        with closing(Ledger(Home(tmp_path / "out").ledger_url)) as ledger:
            ledger.cancel(ledger.jobs()[0].id)
        (source / ".go").touch()

    onlooker.when = lambda counts: counts.of(PhotoState.CLAIMED) == 1
    onlooker.then = cancel
    ending = run()
    assert ending.exit_code is ExitCode.INTERRUPTED
    assert ending.standing.control.status is JobStatus.CANCELLED
    assert ending.counts.of(PhotoState.CLAIMED, PhotoState.PUBLISHED) == 0

    onlooker.when = lambda _counts: False
    assert run().exit_code is ExitCode.DONE
    assert len(delivered(tmp_path)) == 3


def hours_around_now(*, is_open: bool) -> Hours:
    """Return four hours that begin an hour ago, or in ten hours."""
    begin = datetime.now().astimezone() + timedelta(hours=-1 if is_open else 10)
    end = begin + timedelta(hours=4)
    return Hours.parse(f"{begin:%H:%M}-{end:%H:%M}")


def open_hours(tmp_path, *, is_open: bool) -> None:
    with closing(Ledger(Home(tmp_path / "out").ledger_url)) as ledger:
        ledger.set_hours(ledger.jobs()[0].id, hours_around_now(is_open=is_open))


def test_a_run_outside_its_hours_waits_for_them_and_says_so(run, masters, tmp_path, onlooker):
    masters("a.jpg")
    onlooker.when = lambda _: len(onlooker.seen) == 4
    onlooker.then = partial(open_hours, tmp_path, is_open=True)
    assert run(hours=hours_around_now(is_open=False)).exit_code is ExitCode.DONE
    assert [told.open for told in onlooker.told if told.hours] == [False, True]
    assert {seen.finished for seen in onlooker.seen[:4]} == {0}
    assert delivered(tmp_path) == ["a.jpg.restored"]


def test_a_run_in_its_hours_never_says_that_it_waits(run, masters, onlooker):
    masters("a.jpg")
    assert run(hours=hours_around_now(is_open=True)).exit_code is ExitCode.DONE
    assert all(told.open for told in onlooker.told)


def test_at_the_end_of_its_hours_a_run_finishes_what_is_in_hand_and_begins_nothing(
    run, masters, tmp_path, onlooker
):
    source = masters("slow.jpg", "z.jpg")

    def close() -> None:
        open_hours(tmp_path, is_open=False)
        onlooker.when = lambda _: onlooker.told[-1].open is False
        onlooker.then = drain

    def drain() -> None:
        (source / ".go").touch()
        onlooker.when = lambda counts: counts.finished == 1
        onlooker.then = lambda: os.kill(os.getpid(), signal.SIGINT)

    onlooker.when = lambda counts: counts.of(PhotoState.CLAIMED) == 1
    onlooker.then = close
    ending = run(hours=hours_around_now(is_open=True))
    assert ending.exit_code is ExitCode.INTERRUPTED
    assert delivered(tmp_path) == ["slow.jpg.restored"]
    assert ending.counts.by_state == {PhotoState.DONE: 1, PhotoState.PENDING: 1}


def test_a_second_signal_does_not_wait_for_the_photo_in_hand(run, masters, onlooker):
    masters("slow.jpg")
    onlooker.when = lambda counts: counts.of(PhotoState.CLAIMED) == 1
    onlooker.then = lambda: os.kill(os.getpid(), signal.SIGINT)
    onlooker.at_stop = lambda: os.kill(os.getpid(), signal.SIGINT)
    ending = run()
    assert ending.exit_code is ExitCode.INTERRUPTED
    assert ending.counts.by_state == {PhotoState.PENDING: 1}


def test_after_a_power_cut_nothing_runs_on_and_the_next_run_does_the_rest(
    run, masters, tmp_path, stub_run, children_of, eventually
):
    source = masters("a.jpg", "slow.jpg", "z.jpg")
    command = [*stub_run, str(source), str(tmp_path / "out")]
    with subprocess.Popen(command) as process:
        eventually((tmp_path / "out" / "a.jpg.restored").exists)
        children = children_of(process.pid)
        process.kill()
    assert len(children) == 2
    for child in children:
        eventually(partial(is_gone, child))

    (source / ".go").touch()
    assert run().exit_code is ExitCode.DONE
    assert len(delivered(tmp_path)) == 3


def test_a_worker_that_cannot_work_here_ends_the_run_in_its_own_words(
    children_before, run, masters, tmp_path, children_of
):
    masters("a.jpg")
    line = '12:00 ERROR worker.unfit code=weights.corrupt error="cut off" advice="fetch it"'
    words = f"print({line!r}); print('bye'); raise SystemExit(5)"
    with pytest.raises(BrokenOff) as broken:
        run(worker_command=(sys.executable, "-c", words))
    why = broken.value.why
    assert isinstance(why, WorkerStopped)
    assert (why.code, str(why), why.advice) == ("weights.corrupt", "cut off", "fetch it")
    assert not (tmp_path / "out").exists()
    assert children_of(os.getpid()) == children_before


def test_a_worker_that_cannot_work_here_and_does_not_say_why_ends_the_run_too(run, masters):
    masters("a.jpg")
    with pytest.raises(BrokenOff, match="can't work here: oh no") as broken:
        run(worker_command=(sys.executable, "-c", "print('oh no'); raise SystemExit(5)"))
    assert isinstance(broken.value.why, WorkerFailed)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_full_disk_ends_the_run_and_what_was_delivered_stays_delivered(
    run, masters, tmp_path, monkeypatch, log_format
):
    monkeypatch.setenv("GPEN_LOG_FORMAT", log_format)
    masters("a.jpg", "full.jpg")
    with pytest.raises(BrokenOff) as broken:
        run()
    assert getattr(broken.value.why, "code", None) == StoreFull.code
    ending = broken.value.ending
    assert ending.counts.by_state == {PhotoState.DONE: 1, PhotoState.PENDING: 1}
    assert delivered(tmp_path) == ["a.jpg.restored"]


def test_a_worker_that_always_dies_is_given_up(run, masters):
    masters("a.jpg")
    with pytest.raises(BrokenOff, match="died 4 times"):
        run(worker_command=NO_WORKER)


def test_another_recipe_for_photos_that_were_delivered_is_refused_at_once(run, masters):
    masters("a.jpg")
    run()
    with pytest.raises(DestinationTaken, match="another recipe"):
        run(strength=0.5)
    assert run().exit_code is ExitCode.DONE


def test_a_job_that_was_broken_off_before_it_delivered_anything_locks_nothing(
    run, masters, onlooker
):
    source = masters("slow.jpg")
    onlooker.when = lambda counts: counts.of(PhotoState.CLAIMED) == 1
    onlooker.then = lambda: [os.kill(os.getpid(), signal.SIGINT) for _ in range(2)]
    run()
    onlooker.when = lambda _counts: False
    (source / ".go").touch()
    assert run(strength=0.5).exit_code is ExitCode.DONE


def test_a_revived_worker_has_one_lane_and_patience_is_for_deaths_without_progress(
    tmp_path, eventually
):
    log = tmp_path / "worker.log"
    code = "import os; print(os.environ.get('GPEN_LANES'))"
    worker = Worker((sys.executable, "-c", code), environment={"GPEN_LANES": "4"}, log_file=log)
    for finished in (0, 0, 1, 1):
        eventually(worker.is_dead)
        worker.revive(finished=finished, patience=2)
    eventually(worker.is_dead)
    with pytest.raises(WorkerFailed):
        worker.revive(finished=1, patience=2)
    assert log.read_text().split() == ["4", "1", "1", "1", "1"]
    with StopRequest() as stop:
        worker.stop(grace_s=1, request=stop)
