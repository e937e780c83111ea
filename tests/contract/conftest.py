"""A ledger on each database, and an album of photos to try it with."""

import pytest

from jobs.ledger import Ledger
from jobs.migrate import migrate
from jobs.recipe import Recipe
from jobs.schema import Candidate, Job, Outcome
from jobs.testing import FakeClock

OUTCOME = Outcome("a.restored.png", "a.restored.png.json", faces=3, faces_restored=2, elapsed_s=1.5)


class Album:
    """One job in a ledger, with what the tests do to its photos again and again."""

    lease_s = 60.0

    def __init__(self, ledger, name):
        self.ledger = ledger
        self.job = Job(name, source=f"/{name}", destination="/out", recipe=Recipe())

    def add(self, *keys):
        self.ledger.add_job(self.job)
        self.ledger.add_photos(self.job.id, [Candidate(key, 100) for key in keys])

    def photo(self, key="a.jpg"):
        return next(photo for photo in self.ledger.photos(self.job.id) if photo.key == key)

    def state(self, key="a.jpg"):
        return self.photo(key).state

    def claim(self, key="a.jpg", worker="one"):
        return self.ledger.claim(self.photo(key).id, worker=worker, lease_s=self.lease_s)

    def succeed(self, claimed):
        self.ledger.succeed(claimed, OUTCOME)

    def fail(self, claimed, code="photo.corrupt"):
        self.ledger.fail(
            claimed, code=code, message="it is broken", advice="mend it", stage="decode"
        )

    def requeue_stalled(self, max_attempts=3):
        return self.ledger.requeue_stalled(published_timeout_s=600, max_attempts=max_attempts)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.sqlite3'}"
    return request.getfixturevalue("fresh_postgres_url")


@pytest.fixture
def ledger(url, clock):
    migrate(url)
    ledger = Ledger(url, clock=clock)
    yield ledger
    ledger.close()


@pytest.fixture
def album(ledger):
    return Album(ledger, "album")


@pytest.fixture
def letters(ledger):
    return Album(ledger, "letters")
