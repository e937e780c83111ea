"""What the ledger promises to who submits, publishes and reports, on SQLite and on PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from jobs.database import Database
from jobs.errors import JobUnknown, UnsafeKey
from jobs.hours import Hours
from jobs.ledger import Ledger
from jobs.memory import MemoryClass
from jobs.recipe import Recipe
from jobs.schema import Candidate, Job, Miscount, PhotoState

# Jobs and photos


def test_a_job_is_added_once(album, ledger):
    assert ledger.add_job(album.job) is True
    assert ledger.add_job(album.job) is False
    assert ledger.jobs() == [album.job]


def test_adding_photos_again_adds_only_the_new_ones(album, ledger):
    album.add("a.jpg", "b.jpg")
    added = ledger.add_photos(album.job.id, [Candidate("b.jpg", 100), Candidate("c.jpg", 100)])
    assert added == 1
    assert [photo.key for photo in ledger.photos(album.job.id)] == ["a.jpg", "b.jpg", "c.jpg"]


def test_a_key_that_comes_twice_in_one_submission_is_one_photo(album, ledger):
    ledger.add_job(album.job)
    assert ledger.add_photos(album.job.id, [Candidate("a.jpg", 1), Candidate("a.jpg", 1)]) == 1


def test_more_photos_than_a_batch_are_all_added_and_read_back_in_order(album, ledger):
    keys = [f"{number:05}.jpg" for number in range(2345)]
    ledger.add_job(album.job)
    added = ledger.add_photos(album.job.id, (Candidate(key, 1) for key in reversed(keys)))
    assert added == len(keys)
    assert [photo.key for photo in ledger.photos(album.job.id)] == keys


def test_the_same_key_in_two_jobs_is_two_photos(album, letters):
    album.add("a.jpg")
    letters.add("a.jpg")
    assert album.photo().id != letters.photo().id


def test_photos_are_ordered_by_code_point_on_every_database(album, ledger):
    keys = ["Z.jpg", "a b.jpg", "a-1.jpg", "a.jpg", "a/b.jpg", "b.jpg", "é.jpg"]
    album.add(*reversed(keys))
    assert [photo.key for photo in ledger.photos(album.job.id)] == keys


def test_a_key_that_leads_outside_is_refused(album, ledger):
    ledger.add_job(album.job)
    with pytest.raises(UnsafeKey):
        ledger.add_photos(album.job.id, [Candidate("../a.jpg", 1)])
    assert ledger.counts(album.job.id).total == 0


def test_a_job_is_found_by_id_by_name_and_by_the_start_of_its_id(album, ledger):
    album.add()
    for wanted in (album.job.id, "album", album.job.id[:6]):
        assert ledger.find_job(wanted) == album.job


@pytest.mark.parametrize("wanted", ["nothing", "", "%%%%%%", "______"])
def test_a_job_is_not_found_by_anything_else(album, ledger, wanted):
    album.add()
    with pytest.raises(JobUnknown):
        ledger.find_job(wanted)


def test_five_digits_of_an_id_are_too_few(album, ledger):
    album.add()
    with pytest.raises(JobUnknown):
        ledger.find_job(album.job.id[:5])


def test_a_name_that_two_jobs_have_is_refused_with_both_ids(album, ledger):
    namesake = Job("album", "/elsewhere", "/out", Recipe())
    ledger.add_job(album.job)
    ledger.add_job(namesake)
    with pytest.raises(JobUnknown, match="2 jobs") as caught:
        ledger.find_job("album")
    assert album.job.id in str(caught.value)
    assert namesake.id in str(caught.value)


def test_jobs_are_listed_newest_first(album, letters, ledger, clock):
    ledger.add_job(album.job)
    clock.advance(1)
    ledger.add_job(letters.job)
    assert [job.name for job in ledger.jobs()] == ["letters", "album"]


def test_a_recipe_comes_back_as_it_was_given(ledger):
    job = Job("soft", "/masters", "/out", Recipe(strength=0.3, output="tiff"))
    ledger.add_job(job)
    ledger.add_photos(job.id, [Candidate("a.jpg", 1)])
    assert ledger.find_job("soft") == job
    assert ledger.claim(next(ledger.photos(job.id)).id, worker="one", lease_s=1).job == job


# Publishing


def test_published_photos_carry_what_flower_shows(album, ledger):
    album.add("a.jpg")
    [ref] = ledger.publish_next(10)
    assert (ref.id, ref.job_name, ref.key) == (album.photo().id, "album", "a.jpg")
    assert album.state() is PhotoState.PUBLISHED


def test_publishing_takes_the_oldest_first_and_no_more_than_asked(album, letters, ledger, clock):
    album.add("z.jpg", "y.jpg")
    clock.advance(1)
    letters.add("a.jpg")
    assert [ref.key for ref in ledger.publish_next(1)] == ["z.jpg"]
    assert [ref.key for ref in ledger.publish_next(5)] == ["y.jpg", "a.jpg"]
    assert ledger.publish_next(5) == []


def test_a_photo_that_waits_for_its_next_try_is_not_published_early(album, ledger, clock):
    album.add("a.jpg")
    ledger.release(album.claim(), after_s=30)
    clock.advance(29)
    assert ledger.publish_next(5) == []
    clock.advance(1)
    assert len(ledger.publish_next(5)) == 1


def test_in_flight_counts_what_is_published_or_claimed(album, letters, ledger):
    album.add("a.jpg", "b.jpg", "c.jpg")
    letters.add("a.jpg")
    ledger.publish_next(2, job_id=album.job.id)
    album.claim("c.jpg")
    ledger.claim(letters.photo().id, worker="one", lease_s=1)
    assert ledger.in_flight(album.job.id) == 3
    assert ledger.in_flight() == 4


def test_several_dispatchers_never_publish_the_same_photo(url, album, ledger):
    album.add(*(f"{number}.jpg" for number in range(60)))
    ledgers = [Ledger(url) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        batches = threads.map(lambda mine: [mine.publish_next(5) for _ in range(12)], ledgers)
        keys = [ref.key for batch in batches for refs in batch for ref in refs]
    for mine in ledgers:
        mine.close()
    assert len(keys) == len(set(keys))
    assert len(keys) + ledger.counts(album.job.id).of(PhotoState.PENDING) == 60


def test_what_an_empty_broker_never_heard_of_is_published_again(album, ledger):
    album.add("a.jpg", "b.jpg", "c.jpg")
    ledger.publish_next(2)
    assert ledger.unpublish() == 2
    assert len(ledger.publish_next(5)) == 3


# Reading


def test_counts_say_how_far_a_job_is(album, letters, ledger):
    album.add("a.jpg", "b.jpg", "c.jpg")
    letters.add("other.jpg")
    album.succeed(album.claim("a.jpg"))
    album.fail(album.claim("b.jpg"))
    counts = ledger.counts(album.job.id)
    assert (counts.total, counts.finished) == (3, 2)
    assert counts.of(PhotoState.PENDING) == 1
    assert (counts.faces, counts.faces_restored) == (3, 2)


def test_counts_say_how_many_failed_with_which_code(album):
    album.add("a.jpg", "b.jpg", "c.jpg")
    for key, code in (("a.jpg", "store.full"), ("b.jpg", "photo.empty"), ("c.jpg", "store.full")):
        album.fail(album.claim(key), code=code)
    assert album.ledger.counts(album.job.id).by_code == {"store.full": 2, "photo.empty": 1}
    album.ledger.retry(album.job.id, code="store.full")
    assert album.ledger.counts(album.job.id).by_code == {"photo.empty": 1}


def test_a_tally_that_differs_is_found_and_put_right(url, album, letters, ledger):
    album.add("a.jpg", "b.jpg")
    letters.add("a.jpg")
    album.succeed(album.claim("a.jpg"))
    right = ledger.counts(album.job.id)
    assert ledger.miscounts() == []
    with closing(Database(url)) as database, database.begin() as connection:
        connection.execute(
            text("UPDATE tallies SET photos = photos + 2, faces = 0 WHERE state = 'done'")
        )
    assert ledger.miscounts() == [Miscount(album.job.id, PhotoState.DONE, "", -2, 3, 0)]
    ledger.recount()
    assert ledger.miscounts() == []
    assert ledger.counts(album.job.id) == right


def test_a_failure_says_when_the_photo_was_given_up(album, ledger, clock):
    album.add("a.jpg", "b.jpg")
    album.fail(album.claim("a.jpg"))
    clock.advance(60)
    album.fail(album.claim("b.jpg"))
    assert [one.failed_at for one in ledger.failures(album.job.id)] == [clock() - 60, clock()]
    assert album.photo("b.jpg").failure.failed_at == clock()


def test_photos_can_be_read_by_state(album, ledger):
    album.add("a.jpg", "b.jpg")
    album.claim("b.jpg")
    claimed = ledger.photos(album.job.id, state=PhotoState.CLAIMED)
    assert [photo.key for photo in claimed] == ["b.jpg"]


def test_a_migrated_database_passes_the_check(ledger):
    ledger.check()


# Telling a job what to do


@pytest.mark.parametrize("rest", ["pause", "cancel"])
def test_no_photo_of_a_job_that_rests_begins(album, ledger, rest):
    album.add("a.jpg", "b.jpg")
    [ref] = ledger.publish_next(1)
    getattr(ledger, rest)(album.job.id)
    assert ledger.claim(ref.id, worker="one", lease_s=1) is None
    assert album.state("a.jpg") is PhotoState.PENDING
    assert album.claim("a.jpg") is None
    assert album.claim("b.jpg") is None
    assert ledger.publish_next(5) == []
    ledger.resume(album.job.id)
    assert len(ledger.publish_next(5)) == 2


def test_a_photo_in_hand_is_finished_whatever_is_said(album, ledger):
    album.add("a.jpg", "b.jpg")
    claims = [album.claim("a.jpg"), album.claim("b.jpg")]
    ledger.pause(album.job.id)
    album.succeed(claims[0])
    ledger.cancel(album.job.id)
    album.succeed(claims[1])
    assert ledger.counts(album.job.id).of(PhotoState.DONE) == 2


def test_what_a_resting_job_had_published_is_withdrawn_and_no_others(album, letters, ledger):
    album.add("a.jpg")
    letters.add("a.jpg")
    ledger.publish_next(2)
    ledger.pause(album.job.id)
    assert ledger.withdraw() == 1
    assert album.state() is PhotoState.PENDING
    assert letters.state() is PhotoState.PUBLISHED


def test_a_job_of_higher_priority_goes_first(album, letters, ledger, clock):
    album.add("a.jpg", "b.jpg")
    clock.advance(1)
    letters.add("c.jpg", "d.jpg")
    ledger.set_priority(letters.job.id, 3)
    assert [(ref.key, ref.priority) for ref in ledger.publish_next(3)] == [
        ("c.jpg", 3),
        ("d.jpg", 3),
        ("a.jpg", 0),
    ]


def test_jobs_of_one_priority_have_as_many_photos_in_flight_each(album, letters, ledger, clock):
    album.add(*(f"{number}.jpg" for number in range(20)))
    ledger.publish_next(6)
    clock.advance(1)
    letters.add(*(f"{number}.jpg" for number in range(20)))
    ledger.publish_next(4)
    assert (ledger.in_flight(album.job.id), ledger.in_flight(letters.job.id)) == (6, 4)
    ledger.publish_next(3)
    assert (ledger.in_flight(album.job.id), ledger.in_flight(letters.job.id)) == (7, 6)


def test_what_one_job_leaves_goes_to_the_others(album, letters, ledger):
    album.add("a.jpg")
    letters.add(*(f"{number}.jpg" for number in range(9)))
    assert len(ledger.publish_next(8)) == 8
    assert ledger.in_flight(letters.job.id) == 7


def test_a_job_with_hours_waits_until_they_are_opened(album, ledger, clock):
    now = datetime.fromtimestamp(clock.now, UTC).astimezone()
    ledger.add_job(album.job, hours=Hours(now.time(), (now + timedelta(hours=1)).time()))
    album.add("a.jpg")
    assert ledger.publish_next(1) == []
    ledger.keep_hours()
    assert len(ledger.publish_next(1)) == 1
    clock.advance(3600)
    ledger.keep_hours()
    assert album.claim() is None
    ledger.set_hours(album.job.id, None)
    assert album.claim() is not None


def test_hours_that_are_taken_away_while_they_are_looked_at_stay_away(album, ledger, monkeypatch):
    ledger.add_job(album.job, hours=Hours.parse("22:00-06:00"))
    album.add("a.jpg")

    def closed(_hours, _moment) -> bool:
        ledger.set_hours(album.job.id, None)
        return False

    monkeypatch.setattr(Hours, "is_open", closed)
    ledger.set_hours(album.job.id, None)  # opens it
    ledger.set_hours(album.job.id, Hours.parse("22:00-06:00"))
    ledger.keep_hours()
    assert ledger.standing(album.job.id).control.open
    assert album.claim() is not None


def test_urgent_photos_can_be_published_alone(album, letters, ledger):
    album.add("a.jpg")
    letters.add("b.jpg")
    ledger.set_priority(letters.job.id, 1)
    assert [ref.key for ref in ledger.publish_next(5, urgent=True)] == ["b.jpg"]
    assert ledger.publish_next(5, urgent=True, job_id=album.job.id) == []


def test_photos_are_published_by_memory_class(album, ledger):
    ledger.add_job(album.job)
    ledger.add_photos(album.job.id, [Candidate("s.jpg", 1), Candidate("l.tif", 10**10)])
    [ref] = ledger.publish_next(5, memory_class=MemoryClass.LARGE)
    assert (ref.key, ref.memory_class) == ("l.tif", MemoryClass.LARGE)
    assert ledger.in_flight_by_class() == {
        MemoryClass.SMALL: 0,
        MemoryClass.MEDIUM: 0,
        MemoryClass.LARGE: 1,
    }
    assert ledger.publish_next(5, memory_class=MemoryClass.MEDIUM) == []


def test_a_photo_that_needs_more_memory_is_given_back_for_a_larger_worker(album, ledger):
    album.add("a.jpg")
    ledger.release(album.claim(), after_s=0, memory_class=MemoryClass.LARGE)
    assert album.photo().memory_class is MemoryClass.LARGE
    assert ledger.publish_next(5, memory_class=MemoryClass.SMALL) == []
    assert len(ledger.publish_next(5, memory_class=MemoryClass.LARGE)) == 1


def test_a_standing_says_what_a_job_could_be_waiting_for(album, letters, ledger, clock):
    album.add("a.jpg", "b.jpg")
    letters.add("a.jpg")
    ledger.release(album.claim("a.jpg"), after_s=30)
    ledger.release(album.claim("b.jpg"), after_s=20)
    ledger.publish_next(1, job_id=letters.job.id)
    standing = ledger.standing(album.job.id)
    assert (standing.job, standing.next_try_at) == (album.job, clock.now + 20)
    assert standing.others_in_flight == 1
    assert {each.job.name: each.counts.total for each in ledger.standings()} == {
        "album": 2,
        "letters": 1,
    }


@pytest.mark.parametrize(
    ("status", "flying", "over"),
    [("active", 0, False), ("cancelled", 0, True), ("cancelled", 1, False)],
)
def test_a_cancelled_job_is_over_once_nothing_is_in_flight(album, ledger, status, flying, over):
    album.add("a.jpg", "b.jpg")
    ledger.publish_next(flying)
    if status == "cancelled":
        ledger.cancel(album.job.id)
    assert ledger.standing(album.job.id).over is over
