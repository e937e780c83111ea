import pytest

from producer.errors import DestinationOverlaps
from producer.places import check_apart, name_for, normalize


def test_a_directory_has_one_spelling_however_it_is_typed(tmp_path, monkeypatch):
    (tmp_path / "scans").mkdir()
    (tmp_path / "link").symlink_to("scans")
    monkeypatch.chdir(tmp_path)
    spellings = {normalize(typed) for typed in ("scans", "./scans/", f"{tmp_path}/link")}
    assert spellings == {str((tmp_path / "scans").resolve())}


def test_an_s3_address_has_one_spelling_however_many_slashes_it_has():
    assert normalize("s3://in//a/b/") == normalize("s3://in/a/b") == "s3://in/a/b"


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        ("/scans", "/scans"),
        ("/scans", "/scans/out"),
        ("/scans/album", "/scans"),
        ("/", "/scans"),
        ("s3://in", "s3://in"),
        ("s3://in", "s3://in/out"),
        ("s3://in/a/b", "s3://in/a"),
    ],
)
def test_places_of_which_one_contains_the_other_are_refused(source, destination):
    with pytest.raises(DestinationOverlaps):
        check_apart(source, destination)


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        ("/scans", "/scans-restored"),
        ("/scans/a", "/scans/b"),
        ("s3://in", "s3://in-restored"),
        ("s3://in/a", "s3://in/ab"),
        ("/in", "s3://in"),
    ],
)
def test_places_that_only_look_alike_are_accepted(source, destination):
    check_apart(source, destination)


@pytest.mark.parametrize(
    ("source", "name"),
    [("/scans/album 3", "album 3"), ("s3://in/a/b", "b"), ("s3://in", "in"), ("/", "/")],
)
def test_a_job_is_named_after_the_last_part_of_its_source(source, name):
    assert name_for(source) == name
