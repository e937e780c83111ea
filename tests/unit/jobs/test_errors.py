import re

from jobs import errors
from jobs.errors import ClaimLost, JobError, Permanent, Transient

CLASSES = [value for value in vars(errors).values() if isinstance(value, type)]
CONCRETE = [error for error in CLASSES if error not in (JobError, Transient, Permanent)]


def test_every_error_is_tried_again_or_given_up_or_a_lost_claim():
    for error in CONCRETE:
        assert sum(issubclass(error, kind) for kind in (Transient, Permanent, ClaimLost)) == 1


def test_every_error_has_a_code_of_its_own_and_advice():
    codes = [error.code for error in CONCRETE]
    assert len(set(codes)) == len(codes)
    for error in CONCRETE:
        assert re.fullmatch(r"[a-z]+\.[a-z_]+", error.code)
        assert error.advice.endswith(".")
