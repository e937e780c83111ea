import pytest

from jobs.schema import Counts, PhotoState
from producer.exits import ExitCode, code_for_counts, code_for_error


def counts(done: int = 0, failed: int = 0) -> Counts:
    return Counts(by_state={PhotoState.DONE: done, PhotoState.FAILED: failed})


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("source.missing", ExitCode.USAGE),
        ("destination.exists", ExitCode.USAGE),
        ("destination.overlaps", ExitCode.USAGE),
        ("destination.taken", ExitCode.USAGE),
        ("job.unknown", ExitCode.USAGE),
        ("settings.invalid", ExitCode.USAGE),
        ("destination.unusable", ExitCode.ENVIRONMENT),
        ("destination.busy", ExitCode.ENVIRONMENT),
        ("database.unavailable", ExitCode.ENVIRONMENT),
        ("weights.missing", ExitCode.USAGE),
        ("weights.not_here", ExitCode.ENVIRONMENT),
        ("weights.mismatch", ExitCode.ENVIRONMENT),
        ("photo.truncated", ExitCode.NONE_DELIVERED),
        ("output.conflict", ExitCode.NONE_DELIVERED),
    ],
)
def test_an_error_ends_a_command_with_the_documented_exit_code(code, expected):
    assert code_for_error(code) is expected


def test_a_job_whose_photos_are_all_done_is_a_success():
    assert code_for_counts(counts(done=3)) is ExitCode.DONE


def test_a_job_without_photos_is_a_success():
    assert code_for_counts(Counts()) is ExitCode.DONE


def test_a_job_with_some_failed_photos_says_so():
    assert code_for_counts(counts(done=3, failed=1)) is ExitCode.SOME_FAILED


def test_a_job_that_delivered_nothing_says_so():
    assert code_for_counts(counts(failed=1)) is ExitCode.NONE_DELIVERED


def test_a_photo_that_could_not_even_be_entered_counts_as_failed():
    assert code_for_counts(counts(done=3), left_out=1) is ExitCode.SOME_FAILED


def test_the_numbers_are_those_of_the_manual():
    assert [code.value for code in ExitCode] == [0, 1, 2, 3, 4, 5, 130]
