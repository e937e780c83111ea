"""Proof that nothing but faces was changed, and that what is stored is what was restored.

In: a photograph, what the engine made of it, and the encoded derivative. Out: a `Proof`, or an
error before anything is stored. The samples of the files are compared, all of them and at their
own depth. The derivative is decoded again for it: its bytes are what is proved.
"""

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpen_engine import Restoration
from gpen_engine.faces import Region
from jobs.errors import OutputUnfaithful, Permanent
from worker.codec import Encoded, Limits, Page, Photograph, decode
from worker.codec.settle import own_samples, stores_alike

LOSSY = "image/jpeg"
LOSSY_REASON = "the derivative is a JPEG, which keeps no sample exactly"
BACKGROUND_REASON = "the background was restored too, so that every sample may differ"
SHOWN_REASON = "the derivative can't hold samples of the master's own kind"

_ROWS = 256


class Proven(StrEnum):
    """What was proved."""

    IDENTICAL = "identical"
    AS_SHOWN = "identical as shown"
    """The file holds what the engine was shown in place of samples of the master's own kind."""
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, slots=True)
class Proof:
    """What was proved of a derivative before it was stored.

    Attributes:
        outside_regions: whether the samples outside all regions are the master's.
        stored: whether the file holds just what the engine returned.
        samples_compared: how many samples outside all regions were compared with the master's.
        reason: why something isn't plainly identical, else empty.
    """

    outside_regions: Proven
    stored: Proven
    samples_compared: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """Two pictures compared: how many samples, and how many of them differ."""

    compared: int
    differing: int


def prove(
    photograph: Photograph,
    restorations: Sequence[Restoration],
    encoded: Encoded,
    *,
    background: bool,
) -> Proof:
    """Prove that a derivative is the master outside its regions, and decodes to what was restored.

    Args:
        photograph: the master as decoded.
        restorations: what the engine made of each page.
        encoded: the derivative.
        background: whether the recipe restores more than faces.

    Raises:
        OutputUnfaithful: it is not so.
    """
    if encoded.content_type == LOSSY:
        return Proof(Proven.NOT_APPLICABLE, Proven.NOT_APPLICABLE, reason=LOSSY_REASON)
    written = _decode(encoded, restorations)
    pages = list(zip(photograph.pages, restorations, written, strict=True))
    for number, (page, restoration, stored) in enumerate(pages, start=1):
        if not _is_stored(page, restoration.image, stored):
            raise OutputUnfaithful(f"page {number} decodes to other samples than were encoded")
    if background:
        return Proof(Proven.NOT_APPLICABLE, Proven.IDENTICAL, reason=BACKGROUND_REASON)
    compared = 0
    for number, (page, restoration, stored) in enumerate(pages, start=1):
        difference = compare_pages(page, stored, regions_of(restoration))
        if difference is None or difference.differing:
            count = difference.differing if difference else "all"
            raise OutputUnfaithful(f"page {number}: {count} samples outside the regions differ")
        compared += difference.compared
    alike = all(stores_alike(page, stored) for page, _, stored in pages)
    outside = Proven.IDENTICAL if alike else Proven.AS_SHOWN
    return Proof(outside, Proven.IDENTICAL, compared, reason="" if alike else SHOWN_REASON)


def regions_of(restoration: Restoration) -> list[Region]:
    """Return the regions of a picture's restored faces."""
    return [outcome.region for outcome in restoration.faces if outcome.region is not None]


def compare_pages(master: Page, derivative: Page, regions: Sequence[Region]) -> Difference | None:
    """Compare two pages outside the regions, and all of their transparency.

    Returns:
        None where they can't be compared: another size, depth, or number of channels.
    """
    own = master.own if stores_alike(master, derivative) else _shown(master)
    pairs: list[tuple[NDArray[Any], NDArray[Any], Sequence[Region]]]
    pairs = [(own, derivative.own, regions)]
    if master.alpha is not None and derivative.alpha is not None:
        pairs.append((master.alpha.samples, derivative.alpha.samples, ()))
    elif master.alpha is not derivative.alpha:
        return None
    if any(one.shape != other.shape or one.dtype != other.dtype for one, other, _ in pairs):
        return None
    differences = [compare(*pair) for pair in pairs]
    return Difference(
        sum(one.compared for one in differences), sum(one.differing for one in differences)
    )


def compare(
    before: NDArray[Any], after: NDArray[Any], regions: Sequence[Region] = ()
) -> Difference:
    """Count the samples outside all regions, and those of them that differ.

    Args:
        before: `(H, W)` or `(H, W, C)` samples.
        after: the same shape.
        regions: what is left out.
    """
    compared = differing = 0
    for rows in _bands(len(before)):
        one, other = np.atleast_3d(_bits(before[rows])), np.atleast_3d(_bits(after[rows]))
        outside = np.ones(one.shape[:2], np.bool_)
        for x0, y0, x1, y1 in regions:
            top, bottom = max(y0 - rows.start, 0), max(y1 - rows.start, 0)
            outside[top:bottom, max(x0, 0) : max(x1, 0)] = False
        compared += int(np.count_nonzero(outside)) * one.shape[2]
        differing += int(np.count_nonzero((one != other) & outside[:, :, None]))
    return Difference(compared, differing)


def is_same(before: NDArray[Any], after: NDArray[Any]) -> bool:
    """Tell whether two pictures have the same shape, type and samples."""
    same_kind = before.shape == after.shape and before.dtype == after.dtype
    return same_kind and all(
        np.array_equal(_bits(before[rows]), _bits(after[rows])) for rows in _bands(len(before))
    )


def _decode(encoded: Encoded, restorations: Sequence[Restoration]) -> tuple[Page, ...]:
    """Decode a derivative as anybody would; ours may unfold to anything, and so may its tiles."""
    limits = Limits(sys.maxsize, max(1, len(encoded.data)), len(restorations) + 1, math.inf)
    try:
        pages = decode(encoded.data, limits=limits).pages
    except Permanent as error:
        raise OutputUnfaithful(f"the encoded derivative can't be decoded: {error}") from error
    if len(pages) != len(restorations):
        raise OutputUnfaithful(f"{len(pages)} pages were encoded of {len(restorations)}")
    return pages


def _is_stored(page: Page, restored: NDArray[Any], stored: Page) -> bool:
    """Tell whether a page was stored as it was restored, in the master's own kind of samples."""
    if stores_alike(page, stored):
        return is_same(own_samples(page, restored), stored.own)
    # Without its own samples a page is what the engine was shown of it.
    return is_same(own_samples(replace(page, native=None), restored), stored.own)


def _shown(page: Page) -> NDArray[Any]:
    """Return what the engine was shown of a page, one channel where it is gray."""
    return page.pixels[:, :, :1] if page.gray else page.pixels


def _bits(samples: NDArray[Any]) -> NDArray[Any]:
    """Return samples as whole numbers: of two that are no numbers the bits are compared too."""
    return samples.view(f"u{samples.itemsize}") if samples.dtype.kind == "f" else samples


def _bands(height: int) -> Iterator[slice]:
    for top in range(0, height, _ROWS):
        yield slice(top, min(top + _ROWS, height))
