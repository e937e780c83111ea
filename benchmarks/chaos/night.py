"""One run: photos are entered, faults come in between, and in the end everything is looked at.

Two jobs share the site, one into the object store and one into a folder, both on a small disk. The
next fault comes when a further part of the photos is finished, so that none comes after the work.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chaos.audit import Findings, Runs, check_objects, check_photos
from benchmarks.chaos.faults import Fault, Kind, begin, draw_faults
from benchmarks.chaos.photos import Nature, Photo, make_photos
from benchmarks.chaos.report import Report
from benchmarks.chaos.site import FOLDER, LANES, MASTERS, MAX_ATTEMPTS, Site
from jobs.errors import DatabaseUnavailable, StoreFull
from jobs.ledger import Ledger
from jobs.recipe import Recipe
from jobs.schema import Job
from jobs.settings import JobSettings
from jobs.storage import open_store
from producer.submit import submit

_TO_FOLDER = 2  # one photo of so many; both jobs have photos left until the end
_KILLERS, _SLOW, _TORN = 500, 400, 100  # one photo of so many, and one at least
_GAP_S = 0.5  # between two faults
_ALL_FAULTS_BY = 0.8  # this part of the photos is finished then
_PATIENCE_S = 600.0  # so long may nothing be finished
_NO_ROOM = f"worker.stops code={StoreFull.code}"
_NOTICED_S = 120.0  # so long, at most, until the workers that notice a full disk have ended


@dataclass(frozen=True, slots=True)
class Archive:
    """A job, and its masters by key."""

    job: Job
    photos: dict[str, Photo]


class Night:
    """A run on a site.

    Args:
        site: what is hurt.
        archives: the jobs, with all their photos entered.
        ledger: past the gates.
    """

    def __init__(self, site: Site, archives: list[Archive], ledger: Ledger) -> None:
        self._site = site
        self._archives = archives
        self._ledger = ledger
        self.unnoticed = 0
        """So many times the disk was full and no worker noticed."""
        self._finished = 0
        self._moved_at = time.monotonic()

    def live_through(self, faults: list[Fault]) -> bool:
        """Let the faults happen while the photos are restored; return whether that came to an end.

        It doesn't where nothing was finished for a long time.
        """
        total = sum(len(archive.photos) for archive in self._archives)
        for number, fault in enumerate(faults, start=1):
            if not self._wait_finished(_ALL_FAULTS_BY * total * number / len(faults)):
                return False
            print(f"{self._finished:5} finished: {fault}", flush=True)
            if fault.kind is Kind.FILL_DISK:
                self._fill_disk(fault)
            else:
                end = begin(fault, self._site)
                self._wait_s(fault.seconds)
                end()
            self._wait_s(_GAP_S)
        return self._wait(self._is_over) and self._wait(self._site.is_whole)

    def _wait_finished(self, photos: float) -> bool:
        return self._wait(lambda: self._finished >= photos)

    def _fill_disk(self, fault: Fault) -> None:
        """Fill the disk until workers notice; wait until they have ended, their photos finished."""
        start = time.monotonic()
        noticed = self._noticed()
        ends = {name: self._site.parts[name].ends.copy() for name in self._site.names}

        def is_late() -> bool:
            return time.monotonic() > start + _NOTICED_S

        free = begin(fault, self._site)
        self._wait(lambda: self._noticed() != noticed or is_late())
        free()
        ending = self._noticed() - noticed
        self.unnoticed += not ending
        print(f"      noticed by {len(ending)} after {time.monotonic() - start:.1f} s", flush=True)
        parts = self._site.parts
        self._wait(lambda: all(parts[name].ends != ends[name] for name in ending) or is_late())

    def _noticed(self) -> Counter[str]:
        """Return how often each worker has stopped for want of room."""
        return Counter({name: self._site.log_of(name).count(_NO_ROOM) for name in self._site.names})

    def _wait_s(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        self._wait(lambda: time.monotonic() >= until)

    def _wait(self, until: Callable[[], bool]) -> bool:
        """Look after the site until something is so; return False if patience ended before."""
        while not until():
            self._site.look_after()
            self._look()
            if time.monotonic() > self._moved_at + _PATIENCE_S:
                return False
        return True

    def _look(self) -> None:
        try:
            finished = sum(self._ledger.counts(each.job.id).finished for each in self._archives)
        except DatabaseUnavailable:
            return
        if finished != self._finished:
            self._finished, self._moved_at = finished, time.monotonic()

    def _is_over(self) -> bool:
        try:
            standings = [self._ledger.standing(archive.job.id) for archive in self._archives]
        except DatabaseUnavailable:
            return False
        return all(standing.over for standing in standings)


def run(
    folder: Path, *, photos: int, faults: int, workers: int, seed: int, stub_s: float
) -> Report:
    """Live through a night on a new site in an empty folder, and report."""
    draw = random.Random(seed)  # noqa: S311 - it has to be the same again
    killers, slow, torn = (max(1, photos // each) for each in (_KILLERS, _SLOW, _TORN))
    masters = make_photos(photos, killers=killers, slow=slow, torn=torn, draw=draw)
    report = Report(seed, photos, workers, LANES, stub_s, load_before=os.getloadavg()[0])
    with Site(folder, workers=workers, stub_s=stub_s) as site:
        plan = draw_faults(faults, workers=site.names, draw=draw)
        report.faults.update(str(fault.kind) for fault in plan)
        with closing(Ledger(site.direct["GPEN_DATABASE_URL"])) as ledger:
            archives = _enter(site, masters, ledger)
            site.start_programs()
            start = time.monotonic()
            night = Night(site, archives, ledger)
            is_over = night.live_through(plan)
            report.elapsed_s, report.load_after = time.monotonic() - start, os.getloadavg()[0]
            site.stop_programs()
            report.wrong["unfinished"] = [] if is_over else ["nothing was finished any more"]
            report.wrong["unnoticed"] = ["a full disk was no worker's end"] * night.unnoticed
            _report_photos(report, site, archives, ledger)
            _report_runs(report, site, archives, slow=_slow_ids(archives, ledger))
            report.allow(plan, kills=sum(part.kills for part in site.parts.values()))
    return report


def _enter(site: Site, masters: list[Photo], ledger: Ledger) -> list[Archive]:
    """Put the masters into the store, and enter the two jobs."""
    settings = _settings(site)
    archives = []
    for name, destination in site.destinations.items():
        photos = [each for each in masters if (name == FOLDER) == (not each.number % _TO_FOLDER)]
        job = Job(name, f"s3://{MASTERS}/{name}", destination, Recipe())
        source = open_store(job.source, settings)
        for photo in photos:
            source.put_once(photo.key, photo.data, content_type="image")
        submit(job, ledger=ledger, source=source)
        archives.append(Archive(job, {photo.key: photo for photo in photos}))
    return archives


def _settings(site: Site) -> JobSettings:
    given = {name.removeprefix("GPEN_").lower(): value for name, value in site.direct.items()}
    return JobSettings.model_validate(given)


def _report_photos(report: Report, site: Site, archives: list[Archive], ledger: Ledger) -> None:
    """Look at every photo, in the ledger and where it was delivered."""
    found = Findings()
    for archive in archives:
        rows = list(ledger.photos(archive.job.id))
        check_photos(found, archive.photos, rows, cap=MAX_ATTEMPTS)
        check_objects(found, archive.photos, rows, place=site.place(archive.job.name))
        source = open_store(archive.job.source, _settings(site))
        kept = {
            photo.key for photo in archive.photos.values() if source.get(photo.key) == photo.data
        }
        found.changed += sorted(set(archive.photos) - kept)
    report.done, report.failed = found.done, found.failed
    report.wrong |= found.wrong() | {"wrong tallies": [str(each) for each in ledger.miscounts()]}


def _slow_ids(archives: list[Archive], ledger: Ledger) -> set[int]:
    return {
        row.id
        for archive in archives
        for row in ledger.photos(archive.job.id)
        if archive.photos[row.key].nature is Nature.SLOW
    }


def _report_runs(report: Report, site: Site, archives: list[Archive], *, slow: set[int]) -> None:
    """Count from the logs what was done again, and why."""
    masters = [photo for archive in archives for photo in archive.photos.values()]
    runs = Runs(frozenset(each.number for each in masters if each.nature is Nature.KILLER))
    for name in site.names:
        runs.read(site.log_of(name))
    report.deaths_by_photos = runs.deaths_by_photos
    report.redone, report.wasted = runs.redone, runs.wasted
    report.repeated_messages = runs.taken.total()
    report.repeated_while_slow = sum(runs.taken[each] for each in slow)
    report.ends = {name: part.ends for name, part in site.parts.items()}
