"""Whether the cores and the engine work at the same time: photos a second of both, and of each.

The cores alone are a worker whose engine takes no time. The engine is then held for as long as that
worker takes for a photo, so that neither side is the slower one: what both together deliver,
against that, is how much of the time both are busy. One after the other they would deliver half.
"""

from benchmarks.queue.album import candidates, portraits
from benchmarks.queue.site import Site, throughput

_SECONDS = 12.0
_MOST = 800


def measure(site: Site) -> dict[str, float]:
    """Return photos a second of the cores alone, the engine alone and both, with default lanes."""
    cores = _rate(site, 200, engine_s=0.0)
    engine_s = 1 / cores
    count = min(_MOST, int(_SECONDS * cores))
    both = _rate(site, count, engine_s=engine_s)
    few = _rate(site, count, engine_s=engine_s, lanes=2)
    again = _rate(site, count, engine_s=0.0)
    alone = min(1 / engine_s, again)
    return {
        "cores_per_s": again,
        "engine_per_s": 1 / engine_s,
        "both_per_s": both,
        "overlap": both / alone,
        "overlap_with_two_lanes": few / alone,
    }


def _rate(site: Site, count: int, *, engine_s: float, lanes: int | None = None) -> float:
    photos = portraits(count)
    worker = {"GPEN_STUB_S": str(engine_s)} | ({"GPEN_LANES": str(lanes)} if lanes else {})
    job = site.make_job(photos)
    return throughput(site.deliver(job, candidates(photos), workers=[worker]))
