import io

import pytest
from rich.console import Console

from jobs.hours import Hours
from jobs.schema import Control, Counts, JobStatus, PhotoState
from producer.scan import Tally
from producer.submit import Submission
from producer.watch import LineWatcher, LiveWatcher, entered_lines


@pytest.fixture
def screen() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def console(screen) -> Console:
    return Console(file=screen, width=100)


def counts(done: int, pending: int) -> Counts:
    return Counts(by_state={PhotoState.DONE: done, PhotoState.PENDING: pending})


def test_a_submission_is_told_with_what_was_known_before(make_job):
    job = make_job()
    submission = Submission(job, new=1, known=2, tally=Tally(photos=3))
    assert entered_lines(submission) == [
        f"Job {job.id} (album): 3 photos, 2 of them known already."
    ]


def test_a_source_without_photos_is_said_to_be_so(make_job):
    submission = Submission(make_job(), new=0, known=0, tally=Tally(ignored=4))
    assert entered_lines(submission)[-1] == "No photos found in /in."


def test_lines_are_not_repeated_and_the_last_one_always_comes(console, screen):
    with LineWatcher(console) as watcher:
        watcher.progress(counts(0, 2))
        watcher.progress(counts(1, 1))
        watcher.progress(counts(2, 0))
        watcher.progress(counts(2, 0))
        watcher.stopping()
    assert screen.getvalue().splitlines() == [
        "0 of 2 photos",
        "2 of 2 photos",
        "Stopping: photos in hand are finished first. A second Ctrl-C doesn't wait.",
    ]


def test_a_terminal_gets_a_bar_with_the_same_words(make_job, screen):
    terminal = Console(file=screen, width=100, force_terminal=True)
    with LiveWatcher(terminal) as watcher:
        watcher.entered(Submission(make_job(), new=2, known=0, tally=Tally(photos=2)))
        watcher.progress(counts(1, 1))
        watcher.progress(counts(2, 0))
    assert "(album): 2 photos." in screen.getvalue()
    assert "2 of 2 photos" in screen.getvalue()


def test_why_nothing_begins_is_said_once_and_that_it_goes_on_too(console, screen):
    night = Hours.parse("22:00-06:00")
    with LineWatcher(console) as watcher:
        for is_open in (True, False, False, True, True):
            watcher.control(Control(hours=night, open=is_open))
        watcher.control(Control(status=JobStatus.PAUSED))
    assert screen.getvalue().splitlines() == [
        "Outside its hours, 22:00-06:00: photos in hand are finished, the others wait until 22:00.",
        "It goes on.",
        "The job is paused: `gpen-archive resume` lets it go on.",
    ]
