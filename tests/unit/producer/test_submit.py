import pytest

from jobs.errors import DestinationUnusable, SourceMissing, StoreUnavailable
from jobs.schema import PhotoState
from jobs.settings import JobSettings
from jobs.testing import MemoryStore
from producer.errors import DestinationOverlaps
from producer.submit import open_source, submit


def test_every_photo_of_the_source_becomes_a_pending_row(ledger, make_job):
    job = make_job()
    submission = submit(job, ledger=ledger, source=MemoryStore({"a.jpg": b"", "b/c.tif": b""}))
    assert (submission.new, submission.known) == (2, 0)
    assert [photo.key for photo in ledger.photos(job.id, state=PhotoState.PENDING)] == [
        "a.jpg",
        "b/c.tif",
    ]


def test_submitting_again_enters_only_what_is_new(ledger, make_job):
    job, source = make_job(), MemoryStore({"a.jpg": b""})
    submit(job, ledger=ledger, source=source)
    source.objects["b.jpg"] = b""
    again = submit(job, ledger=ledger, source=source)
    assert (again.new, again.known) == (1, 1)
    assert len(ledger.jobs()) == 1


def test_a_source_without_photos_leaves_no_job_behind(ledger, make_job):
    submission = submit(make_job(), ledger=ledger, source=MemoryStore({"notes.txt": b""}))
    assert submission.new == 0
    assert submission.tally.ignored == 1
    assert ledger.jobs() == []


def test_a_submission_that_broke_off_is_completed_by_the_next(ledger, make_job):
    class BreakingStore(MemoryStore):
        def list(self):
            for number, found in enumerate(super().list()):
                if number == 1500:
                    raise StoreUnavailable("gone")
                yield found

    objects = {f"{number:04}.jpg": b"" for number in range(2000)}
    job = make_job()
    with pytest.raises(StoreUnavailable):
        submit(job, ledger=ledger, source=BreakingStore(objects))
    submission = submit(job, ledger=ledger, source=MemoryStore(objects))
    assert submission.known + submission.new == ledger.counts(job.id).total == 2000
    assert submission.known == 1000


@pytest.fixture
def settings() -> JobSettings:
    return JobSettings()


def test_a_missing_source_is_refused(tmp_path, make_job, settings):
    job = make_job(source=str(tmp_path / "nowhere"), destination=str(tmp_path / "out"))
    with pytest.raises(SourceMissing):
        open_source(job, settings)


def test_a_destination_inside_the_source_is_refused(tmp_path, make_job, settings):
    with pytest.raises(DestinationOverlaps):
        open_source(make_job(source=str(tmp_path), destination=str(tmp_path / "out")), settings)


def test_a_destination_that_cannot_be_written_is_refused(tmp_path, make_job, settings):
    (tmp_path / "in").mkdir()
    job = make_job(source=str(tmp_path / "in"), destination="/proc/out")
    with pytest.raises(DestinationUnusable):
        open_source(job, settings)


def test_checking_the_places_writes_nothing(tmp_path, make_job, settings):
    (tmp_path / "in").mkdir()
    job = make_job(source=str(tmp_path / "in"), destination=str(tmp_path / "deep/out"))
    assert open_source(job, settings).url == job.source
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
