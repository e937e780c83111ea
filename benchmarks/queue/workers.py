"""Whether workers add up: photos a second of four workers against one, and of unequal ones.

The stub engines hold their device long enough for two cores to serve all of them.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

from benchmarks.queue.album import portraits
from benchmarks.queue.site import Delivered, Site, throughput
from jobs.memory import MemoryClass, classes_for, memory_class
from jobs.schema import Candidate

_ENGINE_S = 0.25
_CARDS_GIB = {"2 GB": 2, "6 GB": 5.7, "24 GB": 23.6}
_CARDS_S = {"2 GB": 0.6, "6 GB": 0.3, "24 GB": 0.15}
_MIX = {MemoryClass.SMALL: 210, MemoryClass.MEDIUM: 100, MemoryClass.LARGE: 80}
_BYTES = {MemoryClass.SMALL: 20_000, MemoryClass.MEDIUM: 40_000_000, MemoryClass.LARGE: 200_000_000}


def measure(site: Site) -> dict[str, float]:
    """Return the numbers of equal and of unequal workers."""
    one, four = (_equal(site, count) for count in (1, 4))
    numbers = {"one_per_s": one, "four_per_s": four, "scaling": four / (4 * one)}
    return numbers | _unequal(site)


def _equal(site: Site, count: int) -> float:
    photos = portraits(50 * count)
    job = site.make_job(photos)
    worker = {"GPEN_STUB_S": str(_ENGINE_S)}
    entered = [Candidate(key, len(data)) for key, data in photos.items()]
    return throughput(site.deliver(job, entered, workers=[worker] * count))


def _unequal(site: Site) -> dict[str, float]:
    """Let three cards share photos of three classes; compare with the best split there is."""
    kinds = [each for each, count in _MIX.items() for _ in range(count)]
    photos = portraits(len(kinds))
    job = site.make_job(photos)
    # What is said of their sizes routes them; they are small ones, for the stub's time counts.
    entered = [Candidate(key, _BYTES[kind]) for key, kind in zip(photos, kinds, strict=True)]
    assert [memory_class(one.key, one.size_bytes) for one in entered] == kinds
    takes = {card: classes_for(int(gib * (1 << 30))) for card, gib in _CARDS_GIB.items()}
    workers = [
        {"GPEN_STUB_S": str(_CARDS_S[card]), "GPEN_QUEUES": ",".join(takes[card])} for card in takes
    ]
    delivered = site.deliver(job, entered, workers=workers)
    best_s = best_split_s(_MIX, takes, _CARDS_S)
    took_s = _took_s(delivered)
    shares = {
        f"photos_of_{card.replace(' ', '').lower()}": float(
            sum(photo.worker == number for photo in delivered)
        )
        for number, card in enumerate(takes)
    }
    return {"unequal_s": took_s, "best_split_s": best_s, "unequal": took_s / best_s, **shares}


def _took_s(delivered: Sequence[Delivered]) -> float:
    """Return the seconds from when the first photo began until the last was delivered."""
    first = min(delivered, key=lambda photo: photo.at - photo.stages_s["total"])
    return delivered[-1].at - (first.at - first.stages_s["total"])


def best_split_s(
    photos: Mapping[MemoryClass, int],
    takes: Mapping[str, Sequence[MemoryClass]],
    seconds: Mapping[str, float],
) -> float:
    """Return the least time in which cards can do photos, if photos could be divided.

    Photos of some classes can only go to the cards that take any of them: those take at least the
    photos' number over their rates together. The least time of all is the longest of these (a
    cut that no flow gets through faster; the largest cut is the smallest time).
    """
    classes = list(photos)
    chosen = (each for size in range(len(classes)) for each in combinations(classes, size + 1))
    return max(
        sum(photos[each] for each in some)
        / sum(1 / seconds[card] for card, taken in takes.items() if set(taken) & set(some))
        for some in chosen
    )
