"""What the queue costs a photo: milliseconds of one lane whose engine takes no time.

A lane that always finds a message ends one photo after the other. What lies between two ends is all
that a photo takes ("photo"). Of that "codec" is decoding, encoding and proving; "files" is fetching
and hashing the master, the sidecar, and storing both objects safely on the disk; and "queue" is all
that is left: message, claim, lease, ledger, log and answer. "overhead" is queue and files together,
all but codec and engine. Medians of a run.
"""

import statistics
from collections.abc import Sequence
from itertools import pairwise

from benchmarks.queue.album import candidates, portraits
from benchmarks.queue.site import Delivered, Site

PHOTOS = 200


def measure(site: Site) -> dict[str, float]:
    """Return milliseconds a photo with folders and with S3."""
    photos = portraits(PHOTOS)
    numbers: dict[str, float] = {}
    for place, in_s3 in (("folder", False), ("s3", True)):
        job = site.make_job(photos, in_s3=in_s3)
        alone = {"GPEN_LANES": "1", "GPEN_STUB_S": "0"}
        delivered = site.deliver(job, candidates(photos), workers=[alone])
        numbers |= {f"{place}_{name}_ms": value for name, value in _parts(delivered).items()}
    return numbers


def _parts(delivered: Sequence[Delivered]) -> dict[str, float]:
    pairs = list(pairwise(delivered))
    whole = [later.at - photo.at for photo, later in pairs]
    own = [later.codec_s + later.stages_s["restore"] for _, later in pairs]
    held = [later.elapsed_s for _, later in pairs]
    parts = {
        "photo": whole,
        "codec": own,
        "files": _differences(held, own),
        "queue": _differences(whole, held),
        "overhead": _differences(whole, own),
    }
    return {name: 1000 * statistics.median(seconds) for name, seconds in parts.items()}


def _differences(first: Sequence[float], second: Sequence[float]) -> list[float]:
    return [one - other for one, other in zip(first, second, strict=True)]
