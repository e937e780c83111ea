"""What is to be found when all is over: ledger, stores and logs go in, faults of ours come out.

Nothing here trusts the program's own audit: keys are listed, hashes taken, pictures decoded.
"""

import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from benchmarks.chaos.photos import EXPECTED_CODES, Nature, Photo, read_marks
from benchmarks.chaos.places import Place
from jobs.schema import Photo as Row
from jobs.schema import PhotoState

DEATH, GIVEN_BACK = "death of the worker", "given back at the worker's end"
"""What ends a call of the engine that leads nowhere; an error has its class's name."""
UNEXPLAINED = "nothing that a log tells"
_BEGAN, _ENDED = "engine.began", ("photo.done", "photo.error")
_EVENT = re.compile(r"^\S+ [A-Z]+ (?P<event>[a-z]+\.[a-z_]+)(?P<fields>.*)$", re.M)
_NUMBER = re.compile(r"scan (\d+)\.")


@dataclass
class Findings:
    """What was found, and what is wrong of it; of a faultless run every list is empty."""

    done: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)

    def wrong(self) -> dict[str, list[str]]:
        """Return what is wrong, by what it is called."""
        return {
            "lost: neither done nor failed as they should be": self.lost,
            "done and not in the store": self.missing,
            "objects that the ledger doesn't know": self.foreign,
            "partial objects, or another photo's": self.damaged,
            "masters changed": self.changed,
        }


def check_photos(
    found: Findings, photos: Mapping[str, Photo], rows: Iterable[Row], *, cap: int
) -> None:
    """Compare what the ledger says with what each photo had to come to.

    Args:
        found: where to say what is wrong.
        photos: the masters by key.
        rows: all of a job.
        cap: a photo that kills its workers has so many attempts.
    """
    unseen = dict(photos)
    for row in rows:
        photo = unseen.pop(row.key)
        if row.state is PhotoState.DONE:
            found.done += 1
        if row.failure is not None:
            found.failed[row.failure.code] += 1
        end = row.failure.code if row.failure else str(row.state)
        expected = EXPECTED_CODES.get(photo.nature, str(PhotoState.DONE))
        is_early = photo.nature is Nature.KILLER and row.attempts != cap
        if end != expected or is_early:
            found.lost.append(f"{row.key}: {end} for {expected}, {row.attempts} attempts")
    found.lost += [f"{key}: unknown to the ledger" for key in unseen]


def check_objects(
    found: Findings, photos: Mapping[str, Photo], rows: Iterable[Row], *, place: Place
) -> None:
    """Compare a destination with the ledger, and every derivative with its sidecar and master.

    Args:
        found: where to say what is wrong.
        photos: the masters by key.
        rows: all of a job.
        place: its destination.
    """
    left = place.keys()
    for row in rows:
        if row.state is not PhotoState.DONE:
            continue
        derivative, sidecar = str(row.derivative_key), str(row.sidecar_key)
        if not {derivative, sidecar} <= left:
            found.missing.append(row.key)
            continue
        left -= {derivative, sidecar}
        wrong = compare(photos[row.key], derivative, place.read(derivative), place.read(sidecar))
        found.damaged += [f"{row.key}: {what}" for what in wrong]
    found.foreign += sorted(left)


def compare(photo: Photo, key: str, derivative: bytes, sidecar: bytes) -> list[str]:
    """Say what is wrong with one photo's derivative."""
    told = json.loads(sidecar)
    right = {
        "the master's hash": told["master"]["sha256"] == _sha256(photo.data),
        "the derivative's hash": told["derivative"]["sha256"] == _sha256(derivative),
        "the derivative's key": told["derivative"]["key"] == key,
        "the picture": _marks_of(derivative) == (photo.number, photo.nature),
    }
    return [what for what, is_right in right.items() if not is_right]


@dataclass
class Runs:
    """How often the engine was asked for each photo, and what became of calls that led nowhere.

    Args:
        killers: the numbers of the photos that kill their worker.
    """

    killers: frozenset[int] = frozenset()
    of_photo: Counter[int] = field(default_factory=Counter)
    lost: Counter[tuple[int, str]] = field(default_factory=Counter)
    """By photo, and by what ended them: one of the names above, or the error's class."""
    deaths_by_photos: int = 0
    taken: Counter[int] = field(default_factory=Counter)
    """By photo's id: messages that came for a photo in work, or finished, and ended quietly."""

    def read(self, log: str) -> None:
        """Add what one worker's log tells, all its lives one after the other."""
        in_hand: set[int] = set()
        for event, fields in _EVENT.findall(log):
            if event == "worker.ready":
                self._bury(in_hand, DEATH)
            elif event == "worker.gives_back":
                self._bury(in_hand, GIVEN_BACK)
            elif event == _BEGAN:
                number = int(fields.partition("photo=")[2])
                self.of_photo[number] += 1
                in_hand.add(number)
            elif event == "photo.taken":
                self.taken[int(fields.partition("photo_id=")[2])] += 1
            elif event in _ENDED:
                self._end(event, fields, in_hand)
        self._bury(in_hand, DEATH)

    @property
    def redone(self) -> int:
        """How many calls there were beyond the first for each photo."""
        return self.of_photo.total() - len(self.of_photo)

    @property
    def wasted(self) -> Counter[str]:
        """How many calls led nowhere, by what ended them; a second one for no reason is one too."""
        known, wasted = Counter[int](), Counter[str]()
        for (photo, cause), calls in self.lost.items():
            known[photo] += calls
            wasted[cause] += calls
        for photo, calls in self.of_photo.items():
            if calls - 1 > known[photo]:
                wasted[UNEXPLAINED] += calls - 1 - known[photo]
        return wasted

    def _end(self, event: str, fields: str, in_hand: set[int]) -> None:
        number = _NUMBER.search(fields)
        if number and int(number[1]) in in_hand:
            in_hand.remove(int(number[1]))
            if event == "photo.error":
                error = re.search(r'error="?(\w+)', fields)
                self.lost[int(number[1]), error[1] if error else UNEXPLAINED] += 1

    def _bury(self, in_hand: set[int], cause: str) -> None:
        self.deaths_by_photos += cause == DEATH and not in_hand.isdisjoint(self.killers)
        self.lost.update((number, cause) for number in in_hand)
        in_hand.clear()


def _marks_of(derivative: bytes) -> tuple[int, Nature] | None:
    """Return what is written in a picture, None where it can't be decoded."""
    try:
        with Image.open(io.BytesIO(derivative)) as picture:
            return read_marks(np.asarray(picture.convert("RGB")))
    except OSError:
        return None


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
