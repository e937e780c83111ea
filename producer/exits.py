"""Exit codes of `gpen-archive`: an error's code or a job's counts in, a stable number out."""

from enum import IntEnum

from jobs.schema import Counts, PhotoState

_USAGE = frozenset(
    {
        "source.missing",
        "destination.exists",
        "destination.overlaps",
        "destination.taken",
        "job.unknown",
        "code.unknown",
        "settings.invalid",
        "weights.missing",
    }
)
_ABOUT_ONE_PHOTO = ("photo.", "image.", "output.", "key.")


class ExitCode(IntEnum):
    """What a script may rely on."""

    DONE = 0
    UNEXPECTED = 1  # a fault of this program: please report it
    USAGE = 2
    SOME_FAILED = 3
    NONE_DELIVERED = 4
    ENVIRONMENT = 5  # weights, broker, disk, database
    INTERRUPTED = 130


def code_for_error(code: str) -> ExitCode:
    """Return the exit code for an error that ended a command, by the error's own stable code."""
    if code in _USAGE:
        return ExitCode.USAGE
    if code.startswith(_ABOUT_ONE_PHOTO):
        return ExitCode.NONE_DELIVERED
    return ExitCode.ENVIRONMENT


def code_for_counts(counts: Counts, *, left_out: int = 0) -> ExitCode:
    """Return the exit code for a finished job; a job without photos has nothing that failed.

    Args:
        counts: how the job stands.
        left_out: photos of the source that couldn't even be entered.
    """
    if not counts.of(PhotoState.FAILED) + left_out:
        return ExitCode.DONE
    return ExitCode.SOME_FAILED if counts.of(PhotoState.DONE) else ExitCode.NONE_DELIVERED
