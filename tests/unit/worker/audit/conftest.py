import pytest

from tests.unit.worker.audit.archive import Archive, fill


@pytest.fixture
def archive():
    return Archive()


@pytest.fixture
def full_archive(archive):
    """One photo of every kind, delivered; `keys` are the derivatives'."""
    archive.keys = fill(archive)
    return archive
