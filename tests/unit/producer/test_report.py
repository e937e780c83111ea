import json
from dataclasses import replace

import pytest
from rich.console import Console

from jobs.hours import Hours
from jobs.schema import Control, Counts, Failure, JobStatus, PhotoState, Standing
from producer import report
from producer.report import Pace
from producer.scan import Tally


def counts(done=0, failed=0, pending=0, faces=0, restored=0, published=0, claimed=0) -> Counts:
    states = {
        PhotoState.PUBLISHED: published,
        PhotoState.CLAIMED: claimed,
        PhotoState.DONE: done,
        PhotoState.FAILED: failed,
        PhotoState.PENDING: pending,
    }
    return Counts(by_state=states, faces=faces, faces_restored=restored)


def standing(job, *, control=Control(), next_try_at=None, others=0, **numbers) -> Standing:  # noqa: B008 - frozen
    return Standing(job, control, counts(**numbers), next_try_at, others)


def rendered(table) -> str:
    console = Console(width=120)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


FAILURE = Failure("a/[b].jpg", "photo.empty", "no bytes", "Copy it again.", "decode", 1, 1e6)


def test_the_pace_is_unknown_until_something_moves():
    pace = Pace()
    assert pace.per_s is None
    pace.observe(0, 5)
    pace.observe(10, 5)
    assert pace.per_s is None
    assert pace.eta_s(3) is None


def test_the_pace_is_photos_by_time():
    pace = Pace()
    pace.observe(0, 5)
    pace.observe(10, 9)
    assert pace.per_s == pytest.approx(0.4)
    assert pace.eta_s(2) == pytest.approx(5)


def test_the_pace_forgets_what_was_long_ago():
    pace = Pace()
    for at_s, finished in [(0, 0), (100, 1), (200, 101), (300, 201)]:
        pace.observe(at_s, finished)
    assert pace.per_s == pytest.approx(1.0)


def test_photos_finished_in_an_earlier_run_do_not_count_for_the_pace():
    pace = Pace()
    pace.observe(0, 1000)
    pace.observe(10, 1001)
    assert pace.per_s == pytest.approx(0.1)


def test_a_progress_line_says_what_is_known():
    pace = Pace()
    pace.observe(0, 0)
    pace.observe(60, 3)
    line = report.progress_line(counts(done=2, failed=1, pending=3, faces=5, restored=4), pace)
    assert line == ("3 of 6 photos, 1 failed, 4 of 5 finds restored, 3.0 photos/min, 60 s left")


def test_a_progress_line_leaves_out_what_is_not_known():
    assert report.progress_line(counts(pending=3), Pace()) == "0 of 3 photos"


def test_a_finished_job_has_no_time_left():
    pace = Pace()
    pace.observe(0, 0)
    pace.observe(60, 3)
    assert report.progress_line(counts(done=3), pace) == "3 of 3 photos"


def test_the_json_of_a_job_has_the_documented_shape(make_job):
    job = make_job()
    numbers = standing(job, done=2, failed=1, faces=5, restored=4)
    told = json.loads("".join(report.job_json(numbers, [FAILURE], now=0)))
    assert told == {
        "schema_version": 1,
        "job": {
            "id": job.id,
            "name": "album",
            "source": "/in",
            "destination": "/out",
            "recipe": job.recipe.model_dump(),
            "recipe_hash": job.recipe.hash(),
            "finished": True,
            "photos": {
                "total": 3,
                "pending": 0,
                "published": 0,
                "claimed": 0,
                "done": 2,
                "failed": 1,
                "cancelled": 0,
            },
            "status": "active",
            "priority": 0,
            "window": None,
            "failed_by_code": {},
            "waiting_for": None,
            "faces": {"found": 5, "restored": 4},
            "failures": [
                {
                    "key": "a/[b].jpg",
                    "code": "photo.empty",
                    "message": "no bytes",
                    "advice": "Copy it again.",
                    "stage": "decode",
                    "attempts": 1,
                    "failed_at": 1e6,
                }
            ],
        },
    }


def test_the_json_of_very_many_failures_is_written_as_they_are_read(make_job):
    read = []

    def failures():
        for number in range(3):
            read.append(number)
            yield replace(FAILURE, key=f"{number}.jpg")

    pieces = report.job_json(standing(make_job(), failed=3), failures(), now=0)
    written = next(pieces) + next(pieces)
    assert len(read) == 2
    told = json.loads(written + "".join(pieces))["job"]
    assert [failure["key"] for failure in told["failures"]] == ["0.jpg", "1.jpg", "2.jpg"]


def test_a_cancelled_job_of_which_nothing_is_in_hand_is_finished(make_job):
    control = Control(status=JobStatus.CANCELLED)
    for numbers, finished in (({"done": 1, "pending": 2}, True), ({"claimed": 1}, False)):
        told = json.loads(
            report.jobs_json([replace(standing(make_job(), **numbers), control=control)])
        )
        assert [job["finished"] for job in told["jobs"]] == [finished]


def test_the_json_of_all_jobs_lists_them_without_failures(make_job):
    told = json.loads(report.jobs_json([standing(make_job(), pending=1)]))
    assert [job["finished"] for job in told["jobs"]] == [False]
    assert "failures" not in told["jobs"][0]


def test_the_table_of_jobs_has_a_row_for_each(make_job):
    text = rendered(report.jobs_table([standing(make_job("one"), done=7, pending=4)]))
    assert "one" in text
    assert text.splitlines()[1].split()[2:7] == ["11", "7", "0", "4", "0"]


def test_the_table_of_a_job_says_where_its_results_are(make_job):
    text = rendered(report.job_table(standing(make_job(), done=1, faces=3, restored=2)))
    assert "/out" in text
    assert "finds 3, 2 restored" in " ".join(text.split())
    assert "left alone 1: the sidecars say why; see --min-score" in " ".join(text.split())


NIGHT = Hours.parse("22:00-06:00")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"pending": 1, "control": Control(JobStatus.PAUSED)}, "it is paused"),
        ({"pending": 1, "control": Control(JobStatus.CANCELLED)}, "it is cancelled"),
        ({"pending": 1, "control": Control(hours=NIGHT, open=False)}, "it runs 22:00-06:00"),
        ({"published": 1}, "no worker"),
        ({"pending": 1, "next_try_at": 160}, "the next try, in 60 s"),
        ({"pending": 1, "next_try_at": 90, "others": 7}, "7 photos of other jobs"),
        ({"pending": 1, "next_try_at": 90}, "no `dispatch` or `run` is there"),
    ],
)
def test_a_job_that_does_not_move_says_why(make_job, how, said):
    still = standing(make_job(), **how)
    assert report.waiting_for(still, now=100).count(said) == 1
    assert said in " ".join(rendered(report.job_table(still, now=100)).split())


@pytest.mark.parametrize("how", [{"pending": 1, "claimed": 1}, {"done": 1}])
def test_a_job_that_moves_or_is_done_waits_for_nothing(make_job, how):
    assert report.waiting_for(standing(make_job(), **how), now=100) is None


def test_what_a_cancelled_job_never_began_is_listed_as_cancelled(make_job):
    given_up = standing(
        make_job(), control=Control(JobStatus.CANCELLED), done=2, pending=4, published=1
    )
    told = json.loads("".join(report.job_json(given_up, [], now=0)))["job"]
    assert (told["status"], told["photos"]["cancelled"]) == ("cancelled", 5)
    assert (told["photos"]["done"], told["photos"]["pending"]) == (2, 0)
    assert "cancelled 5" in " ".join(rendered(report.job_table(given_up)).split())


def test_the_table_of_a_job_shows_priority_and_window(make_job):
    control = Control(priority=7, hours=NIGHT)
    text = " ".join(rendered(report.job_table(standing(make_job(), control=control))).split())
    assert "priority 7" in text
    assert "window 22:00-06:00" in text


def test_the_table_of_failures_says_what_to_do():
    text = rendered(report.failures_table([FAILURE]))
    for part in ("a/[b].jpg", "photo.empty", "no bytes", "Copy it again."):
        assert part in text


def test_names_cannot_steer_the_terminal():
    assert report.plain("a\x1b[31mb\u202ec\nd") == "a\ufffd[31mb\ufffdc\nd"


def test_a_scan_says_what_it_passed_over_and_why():
    tally = Tally(photos=5, ignored=1, ours=2, unsafe=["a\\b.jpg"])
    assert report.scan_lines(tally) == [
        "passed over 1 file: not a photo by its suffix",
        "passed over 2 files: delivered by an earlier run",
        "left out a\\b.jpg: the name can't be used (key.unsafe). Rename the file.",
    ]
