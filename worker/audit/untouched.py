"""Proof that nothing but faces was changed, and that what is stored is what was restored.

In: a photograph, what the engine made of it, and the encoded derivative. Out: a `Proof`, or an
error before anything is stored. The samples of the files are compared, all of them and at their
own depth. The derivative is decoded again for it: its bytes are what is proved.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpen_engine import Restoration
from gpen_engine.faces import Region
from jobs.errors import OutputUnfaithful, Permanent
from worker.codec import (
    Encoded,
    Limits,
    Page,
    Photograph,
    decode,
    own_rows,
    rendered_rows,
    stores_alike,
)
from worker.scratch import DEFAULT, Scratch, bands

LOSSY = "image/jpeg"
LOSSY_REASON = "the derivative is a JPEG, which keeps no sample exactly"
BACKGROUND_REASON = "the background was restored too, so that every sample may differ"
SHOWN_REASON = "the derivative can't hold samples of the master's own kind"


class Proven(StrEnum):
    """What was proved."""

    IDENTICAL = "identical"
    AS_SHOWN = "identical as shown"
    """The file holds a rendition in place of samples of the master's own kind."""
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

    def __add__(self, other: "Difference") -> "Difference":
        return Difference(self.compared + other.compared, self.differing + other.differing)


def prove(
    photograph: Photograph,
    restorations: Sequence[Restoration],
    encoded: Encoded,
    *,
    background: bool,
    scratch: Scratch = DEFAULT,
) -> Proof:
    """Prove that a derivative is the master outside its regions, and decodes to what was restored.

    Args:
        photograph: the master as decoded.
        restorations: what the engine made of each page.
        encoded: the derivative.
        background: whether the recipe restores more than faces.
        scratch: room for the derivative's samples.

    Raises:
        OutputUnfaithful: it is not so.
        ScratchFull: there is no room.
    """
    if encoded.content_type == LOSSY:
        return Proof(Proven.NOT_APPLICABLE, Proven.NOT_APPLICABLE, reason=LOSSY_REASON)
    written = _decode(encoded, restorations, scratch)
    pages = list(zip(photograph.pages, restorations, written, strict=True))
    for number, (page, restoration, stored) in enumerate(pages, start=1):
        if not _is_stored(page, restoration, stored):
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
    rows_of = partial(own_rows if stores_alike(master, derivative) else rendered_rows, master)
    before, after = Restoration(master.pixels, (), {}), derivative.own
    difference = Difference(0, 0)
    for rows in bands(after):
        part = rows_of(before, rows)
        if part.shape != after[rows].shape or part.dtype != after.dtype:
            return None
        difference += _compare_rows(part, after[rows], regions, top=rows.start)
    if len(after) != len(master.pixels) or (master.alpha is None) != (derivative.alpha is None):
        return None
    if master.alpha is None or derivative.alpha is None:
        return difference
    alphas = master.alpha.samples, derivative.alpha.samples
    return difference + compare(*alphas) if _is_alike(*alphas) else None


def compare(
    before: NDArray[Any], after: NDArray[Any], regions: Sequence[Region] = ()
) -> Difference:
    """Count the samples outside all regions, and those of them that differ.

    Args:
        before: `(H, W)` or `(H, W, C)` samples.
        after: the same shape.
        regions: what is left out.
    """
    difference = Difference(0, 0)
    for rows in bands(after):
        difference += _compare_rows(before[rows], after[rows], regions, top=rows.start)
    return difference


def _compare_rows(
    before: NDArray[Any], after: NDArray[Any], regions: Sequence[Region], *, top: int
) -> Difference:
    """Compare some rows outside the regions; `top` is the first of them."""
    one, other = np.atleast_3d(_bits(before)), np.atleast_3d(_bits(after))
    outside = np.ones(one.shape[:2], np.bool_)
    for x0, y0, x1, y1 in regions:
        outside[max(y0 - top, 0) : max(y1 - top, 0), max(x0, 0) : max(x1, 0)] = False
    return Difference(
        int(np.count_nonzero(outside)) * one.shape[2],
        int(np.count_nonzero((one != other) & outside[:, :, None])),
    )


def _decode(
    encoded: Encoded, restorations: Sequence[Restoration], scratch: Scratch
) -> tuple[Page, ...]:
    """Decode a derivative as anybody would; ours may unfold to anything, and so may its tiles."""
    stored = encoded.stored
    limits = Limits(sys.maxsize, max(1, len(stored)), len(restorations) + 1, math.inf)
    try:
        pages = decode(stored, limits=limits, space=scratch).pages
    except Permanent as error:
        raise OutputUnfaithful(f"the encoded derivative can't be decoded: {error}") from error
    if len(pages) != len(restorations):
        raise OutputUnfaithful(f"{len(pages)} pages were encoded of {len(restorations)}")
    return pages


def _is_stored(page: Page, restoration: Restoration, stored: Page) -> bool:
    """Tell whether a page was stored as it was restored, in the master's own kind of samples."""
    rows_of = partial(own_rows if stores_alike(page, stored) else rendered_rows, page)
    return stored.own.shape[:2] == restoration.shape[:2] and all(
        is_same(rows_of(restoration, rows), stored.own[rows]) for rows in bands(stored.own)
    )


def is_same(before: NDArray[Any], after: NDArray[Any]) -> bool:
    """Tell whether two pictures have the same shape, type and samples."""
    return _is_alike(before, after) and np.array_equal(_bits(before), _bits(after))


def _is_alike(before: NDArray[Any], after: NDArray[Any]) -> bool:
    return before.shape == after.shape and before.dtype == after.dtype


def _bits(samples: NDArray[Any]) -> NDArray[Any]:
    """Return samples as whole numbers: of two that are no numbers the bits are compared too."""
    return samples.view(f"u{samples.itemsize}") if samples.dtype.kind == "f" else samples
