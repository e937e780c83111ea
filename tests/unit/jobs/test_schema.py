import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from jobs.errors import UnsafeKey
from jobs.recipe import Recipe
from jobs.schema import (
    MAX_MASTER_KEY_BYTES,
    TRANSITIONS,
    Counts,
    Job,
    PhotoMessage,
    PhotoState,
    check_key,
    derivative_key,
    sidecar_key,
)

SUFFIXES = st.sampled_from([".png", ".tif", ".jpg"])
# Few letters, so that masters whose names differ only in dots and suffixes come up often.
NAMES = st.lists(
    st.sampled_from(["a", "b", ".", ".png", ".PNG", ".jpg", ".tif", ".restored", "/"]), min_size=1
).map("".join)


def is_safe(key):
    try:
        check_key(key)
    except UnsafeKey:
        return False
    return True


@given(NAMES, NAMES, SUFFIXES, SUFFIXES)
@example("a", "a.", ".png", ".png")
@example("a.restored", "a.restored.png", ".png", ".png")
@example("a.jpg", "a.jpg.png", ".png", ".png")
@example("a.png", "a.PNG", ".png", ".png")
def test_two_masters_never_share_a_derivative(one, other, suffix, other_suffix):
    assume(one != other and is_safe(one) and is_safe(other))
    assert derivative_key(one, suffix) != derivative_key(other, other_suffix)


@given(NAMES, NAMES, SUFFIXES, SUFFIXES)
def test_no_sidecar_is_in_the_way_of_a_derivative(one, other, suffix, other_suffix):
    assume(is_safe(one) and is_safe(other))
    assert sidecar_key(derivative_key(one, suffix)) != derivative_key(other, other_suffix)


@given(NAMES, SUFFIXES)
def test_a_derivative_is_never_taken_for_its_master(key, suffix):
    assume(is_safe(key))
    name = derivative_key(key, suffix)
    assert name != key
    assert ".restored" in name
    assert name.lower().endswith(suffix)
    assert name.rpartition("/")[0] == key.rpartition("/")[0]


@pytest.mark.parametrize(
    ("master", "suffix", "derivative"),
    [
        ("a/b.tif", ".tif", "a/b.restored.tif"),
        ("a/b.TIF", ".tif", "a/b.restored.TIF"),
        ("a/b.jpg", ".png", "a/b.restored.jpg.png"),
        ("a/b", ".png", "a/b.restored..png"),
    ],
)
def test_a_derivative_is_named_after_its_master(master, suffix, derivative):
    assert derivative_key(master, suffix) == derivative
    assert sidecar_key(derivative) == f"{derivative}.json"


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/a.jpg",
        "a/",
        "a//b.jpg",
        "./a.jpg",
        "a/../b.jpg",
        "..",
        "a\\b.jpg",
        "a\nb.jpg",
        "a\0.jpg",
        "a\x7f.jpg",
        "caf\udce9.jpg",
        "é" * (MAX_MASTER_KEY_BYTES // 2) + "a",
    ],
)
def test_a_key_that_could_lead_outside_or_cannot_be_stored_is_refused(key):
    with pytest.raises(UnsafeKey):
        check_key(key)


@pytest.mark.parametrize(
    "key", ["a.jpg", "...", "a..b/c", ".hidden", "Ünï cödé/名前.tif", "a" * MAX_MASTER_KEY_BYTES]
)
def test_an_ordinary_key_is_accepted_as_it_is(key):
    assert check_key(key) == key


def test_the_longest_key_leaves_room_for_the_names_made_from_it():
    longest = check_key("a" * (MAX_MASTER_KEY_BYTES - 4) + ".jpg")
    name = sidecar_key(derivative_key(longest, ".png"))
    assert check_key(name, max_bytes=1024) == name


def test_the_same_work_is_the_same_job_whatever_it_is_called():
    job = Job("album", "/in", "/out", Recipe())
    assert Job("another name", "/in", "/out", Recipe()).id == job.id


@pytest.mark.parametrize(
    "other",
    [
        Job("album", "/in2", "/out", Recipe()),
        Job("album", "/in", "/out2", Recipe()),
        Job("album", "/in", "/out", Recipe(strength=0.5)),
    ],
)
def test_other_work_is_another_job(other):
    assert other.id != Job("album", "/in", "/out", Recipe()).id


def test_every_state_has_its_transitions_and_done_is_the_end():
    assert set(TRANSITIONS) == set(PhotoState)
    assert TRANSITIONS[PhotoState.DONE] == {}


def test_counts_add_up():
    counts = Counts({PhotoState.DONE: 3, PhotoState.FAILED: 1, PhotoState.PENDING: 2})
    assert (counts.total, counts.finished) == (6, 4)
    assert counts.of(PhotoState.CLAIMED) == 0


def test_a_message_holds_a_version_and_an_id_and_refuses_anything_else():
    assert PhotoMessage(photo_id=7).model_dump() == {"version": 1, "photo_id": 7}
    with pytest.raises(ValidationError):
        PhotoMessage.model_validate({"photo_id": 7, "path": "/etc/passwd"})
