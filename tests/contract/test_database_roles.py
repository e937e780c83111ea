"""The roles of deploy/roles.sql on a real PostgreSQL: each does its own work, and nothing else."""

import uuid
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from jobs.errors import JobError
from jobs.ledger import Ledger
from jobs.migrate import migrate
from jobs.recipe import Recipe
from jobs.schema import Candidate, Job, Outcome, PhotoState
from jobs.tables import PhotoRow

pytestmark = pytest.mark.services

SQL = (Path(__file__).resolve().parents[2] / "deploy" / "roles.sql").read_text()
OUTCOME = Outcome("a.png", "a.png.json", faces=1, faces_restored=1, elapsed_s=1.0)
REFUSED = psycopg.errors.InsufficientPrivilege
ENTERED = {"id", "job_id", "key", "size_bytes"}


class Roles:
    """A ledger's database, and ways into it by role."""

    def __init__(self, owner):
        self.owner = owner

    def url(self, role):
        return make_url(self.owner).set(username=f"a_{role}", password="x").render_as_string(False)

    def ledger(self, role):
        return closing(Ledger(self.url(role)))

    def execute(self, role, statement):
        url = self.url(role) if role else self.owner
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            connection.execute(statement)


@pytest.fixture(scope="module")
def roles(postgres):
    roles = Roles(postgres.create_database("roles"))
    migrate(roles.owner)
    for _ in range(2):  # it may be repeated
        roles.execute(None, SQL)
    for role in ("producer", "worker", "monitor"):
        roles.execute(None, f"CREATE ROLE a_{role} LOGIN PASSWORD 'x' IN ROLE gpen_{role}")
    return roles


@pytest.fixture
def job():
    name = uuid.uuid4().hex
    return Job(name, source=f"/{name}", destination="/out", recipe=Recipe())


@pytest.fixture
def published(roles, job):
    """Submit three photos as the producer does, and publish them."""
    with roles.ledger("producer") as ledger:
        ledger.check()
        assert ledger.add_job(job)
        assert ledger.add_photos(job.id, [Candidate(f"{n}.png", 10) for n in range(3)]) == 3
        return [ref.id for ref in ledger.publish_next(3, job_id=job.id)]


@pytest.mark.usefixtures("published")
def test_a_producer_submits_dispatches_and_commands(roles, job):
    with roles.ledger("producer") as ledger:
        assert not ledger.add_job(job)
        assert ledger.add_photos(job.id, [Candidate("0.png", 10), Candidate("new.png", 10)]) == 1
        ledger.set_priority(job.id, 5)
        ledger.pause(job.id)
        assert ledger.withdraw() >= 3
        ledger.resume(job.id)
        ledger.set_hours(job.id, None)
        ledger.keep_hours()
        assert len(ledger.publish_next(10, job_id=job.id)) == 4
        ledger.requeue_stalled(published_timeout_s=-1, max_attempts=3)
        ledger.requeue_lost("worker", max_attempts=3)
        ledger.retry(job.id)
        assert ledger.miscounts() == []


def test_a_worker_claims_and_says_what_became_of_it(roles, job, published):
    done, failed, given_back = published
    with roles.ledger("worker") as ledger:
        ledger.check()
        claim = ledger.claim(done, worker="w", lease_s=60)
        ledger.renew(claim, lease_s=60)
        ledger.succeed(claim, OUTCOME)
        claim = ledger.claim(failed, worker="w", lease_s=60)
        ledger.fail(claim, code="photo.corrupt", message="m", advice="a", stage="decode")
        ledger.release(ledger.claim(given_back, worker="w", lease_s=60), after_s=0)
        ledger.give_back("w")
        assert ledger.counts(job.id).of(PhotoState.DONE, PhotoState.FAILED) == 2
        assert ledger.miscounts() == []


def test_a_monitor_reads_all_and_writes_nothing(roles, job, published):
    with roles.ledger("monitor") as ledger:
        ledger.check()
        assert ledger.standing(job.id).counts.total == 3
        assert len(list(ledger.photos(job.id))) == 3
        assert list(ledger.failures(job.id)) == []
        for write in (
            lambda: ledger.pause(job.id),
            lambda: ledger.claim(published[0], worker="w", lease_s=60),
            lambda: ledger.add_photos(job.id, [Candidate("evil.png", 1)]),
        ):
            with pytest.raises(JobError, match="permission denied"):
                write()


@pytest.mark.parametrize("role", ["producer", "worker", "monitor"])
@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE photos",
        "ALTER TABLE photos ADD COLUMN evil text",
        "CREATE TABLE evil (a int)",
        "CREATE ROLE evil",
        "TRUNCATE photos, tallies",
        "DELETE FROM photos",
        "DELETE FROM jobs",
        "DELETE FROM tallies",
        "UPDATE photos SET key = '../../etc/passwd'",
        "UPDATE photos SET job_id = 'another'",
        "UPDATE jobs SET destination = '/elsewhere'",
        "UPDATE jobs SET source = '/etc'",
        "UPDATE alembic_version SET version_num = '1'",
        "COPY (SELECT 1) TO PROGRAM 'sh'",
    ],
)
def test_nobody_but_the_owner_changes_tables_identities_or_places(roles, role, statement):
    with pytest.raises(REFUSED):
        roles.execute(role, statement)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO jobs SELECT * FROM jobs",
        "INSERT INTO photos SELECT * FROM photos",
        "UPDATE jobs SET status = 'cancelled'",
        "SELECT nextval('photos_id_seq')",
    ],
)
def test_a_worker_enters_nothing_and_commands_nobody(roles, statement):
    with pytest.raises(REFUSED):
        roles.execute("worker", statement)


def test_every_column_of_a_photo_that_work_changes_is_granted(roles):
    names = {column.name for column in PhotoRow.__table__.columns} - ENTERED
    for role in ("producer", "worker"):
        for name in names:
            roles.execute(role, f"UPDATE photos SET {name} = NULL WHERE false")  # noqa: S608
