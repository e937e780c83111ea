"""The views of a picture that a face detector is shown, and one list of faces out of all of them.

A network finds faces whose size suits its anchors, in a picture that fits in its memory. So a
picture is seen at several levels, each half as large as the one before; every level in tiles that
overlap; every tile, where wished, turned by quarters. In: a picture's shape, what was found in the
tiles. Out: the tiles, their pixels, and the faces, each once. Geometry only; the network is
elsewhere.

Coordinates are pixels, x right, y down; a pixel's centre has whole coordinates. A level's factor
says how many of its pixels there are to one of the picture.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from gpen_engine.boxes import overlaps, share_inside, side_px
from gpen_engine.faces import Face, Pixels, Region

Points = NDArray[np.float64]

STRIDE_PX = 32
"""Tiles begin at multiples of it: the network's coarsest stride, so that the grid of its anchors is
the same in every tile."""
OVERLAP_PX = 192
"""By so much tiles overlap: the largest face that has to be whole in one of them, and a margin."""
COARSE_SIDE_PX = 512
"""Longest side of the coarsest level, in which a face that fills the picture fits the anchors."""
_ENLARGE = 2.0
"""Small pictures are doubled: faces of 15 px, the smallest worth listing, are then found."""
_REDUCE = 0.5
"""Large scans are seen at half their size: finer than that they show grain, and the faces that are
lost have less than 30 px of the scan."""
_STRIP_BYTES = 32 << 20
"""So much of a picture is reduced at a time: a view that isn't contiguous is copied on the way."""

_EDGE_SHARE = 0.25
"""A box that comes nearer to an inner edge of its tile than this share of its side may be cut by
it: what the network answers then is a whole face, only a smaller one."""
_LARGEST_SIDE_PX = 400
"""The anchors end at 512 px: a face that is larger at a level falls apart there."""
_SURE_SIDES_PX = (48, 128)
"""Between these, every level sees a face that one level sees, and whole in one of its tiles."""
_PIECES_SIDE_PX = 256
"""From here on, a face is also found in pieces."""
_BEST_SIDE_PX = 128
_OCTAVE = 0.05
"""What a find counts less for each doubling away from the size that suits the anchors best."""
_SAME_OVERLAP = 0.4
"""Intersection over union from which two finds are one face."""
_SAME_OVERLAP_TURNED = 0.2
"""The same for finds in views turned differently: a face that lies on its side is misjudged."""
_UNCONFIRMED = 0.9
"""What is left of a find's score when no other level that should see it does."""
_ROLL_DEG = 50.0
"""A face rolled by more in its view is found, with landmarks pulled towards an upright one's."""
_MISJUDGED = 0.9
"""What is left of a find's score then. A face's, when a find of at least that score is rolled."""
_SURE_SCORE = 0.9999
"""Scores count as evidence up to here: beyond it they are rounded to 1."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of a picture, seen at a level.

    Attributes:
        level: 0 is the finest.
        region: the part, in the picture's pixels.
        size: (width, height) of the view, in the level's pixels.
        inner: whether the picture goes on beyond the left, upper, right, lower edge.
    """

    level: int
    region: Region
    size: tuple[int, int]
    inner: tuple[bool, bool, bool, bool]


@dataclass(frozen=True, slots=True)
class Find:
    """A face as found in one tile.

    Attributes:
        face: in the picture's pixels.
        level: of the tile.
        turns: by how many quarters the view was turned counterclockwise, 0 to 3.
        side_px: the box's longer side, in the level's pixels.
    """

    face: Face
    level: int
    turns: int
    side_px: float


def level_factors(shape: tuple[int, ...], *, fine_side_px: int) -> list[float]:
    """Return the factors of a picture's levels, from the finest to the coarsest.

    Args:
        shape: of the picture.
        fine_side_px: longest side of the finest level; but a picture is enlarged at most twice, and
            reduced at most to half.
    """
    longest = max(shape[:2])
    factors = [min(_ENLARGE, max(_REDUCE, fine_side_px / longest))]
    while longest * factors[-1] > COARSE_SIDE_PX:
        factors.append(factors[-1] / 2)
    return factors


def cut_tiles(shape: tuple[int, ...], factors: Sequence[float], *, side_px: int) -> Iterator[Tile]:
    """Yield the tiles of all levels, at most `side_px` large, from the finest level on."""
    height, width = shape[:2]
    for level, factor in enumerate(factors):
        across = _spans(max(1, round(width * factor)), side_px)
        down = _spans(max(1, round(height * factor)), side_px)
        for top, bottom in down:
            for left, right in across:
                # The last span ends where the picture ends.
                x0, x1 = round(left / factor), _end(right, across, factor, width)
                y0, y1 = round(top / factor), _end(bottom, down, factor, height)
                inner = (x0 > 0, y0 > 0, x1 < width, y1 < height)
                yield Tile(level, (x0, y0, x1, y1), (right - left, bottom - top), inner)


def _spans(length: int, side: int) -> list[tuple[int, int]]:
    """Cut a length into equal parts of at most `side` that overlap by `OVERLAP_PX` or more."""
    if length <= side:
        return [(0, length)]
    count = math.ceil((length - OVERLAP_PX) / (side - OVERLAP_PX))
    part = _to_stride((length + (count - 1) * OVERLAP_PX) / count)
    last = _to_stride(length - part)
    starts = [min(index * (part - OVERLAP_PX), last) for index in range(count)]
    return [(start, min(start + part, length)) for start in starts]


def _to_stride(length: float) -> int:
    return math.ceil(length / STRIDE_PX) * STRIDE_PX


def _end(stop: int, spans: list[tuple[int, int]], factor: float, length: int) -> int:
    return length if stop == spans[-1][1] else round(stop / factor)


def see(image: Pixels, tile: Tile) -> NDArray[np.uint8]:
    """Return a tile's pixels, `(height, width, 3) uint8 RGB`, in its level's size.

    Strip by strip, so that the memory it takes depends on the tile alone.
    """
    x0, y0, x1, y1 = tile.region
    width, height = tile.size
    view = np.empty((height, width, 3), np.uint8)
    ratio = (y1 - y0) / height
    rows = max(1, int(_STRIP_BYTES / max(1.0, ratio * (x1 - x0) * 3 * image.itemsize)))
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        first, stop = y0 + round(top * ratio), y0 + round(bottom * ratio)
        strip = image[first : max(stop, first + 1), x0:x1]
        view[top:bottom] = _resized(strip, (width, bottom - top))
    return view


def _resized(image: Pixels, size: tuple[int, int]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    interpolation = cv2.INTER_AREA if size[0] <= width and size[1] <= height else cv2.INTER_CUBIC
    resized = np.asarray(cv2.resize(image, size, interpolation=interpolation))
    if resized.dtype == np.uint16:
        resized = np.rint(resized / np.float32(257.0))
    return np.asarray(resized, np.uint8)


def locate(found: NDArray[np.float64], tile: Tile, turns: int) -> list[Find]:
    """Bring what was found in a tile's turned view back into the picture.

    A face that an inner edge of the tile cuts is left out: another tile, or a coarser level, has
    it whole.

    Args:
        found: `(N, 15)`: box, score, five landmarks, in pixels of the turned view.
        tile: the tile.
        turns: by how many quarters its view was turned counterclockwise, 0 to 3.
    """
    finds = []
    for row in found:
        points = _upright(np.delete(row, 4).reshape(7, 2), turns, tile.size)
        low, high = points[:2].min(axis=0), points[:2].max(axis=0)
        if not _is_cut(low, high, tile):
            spots = _to_picture(np.vstack([low, high, points[2:]]), tile)
            side = float((high - low).max())
            finds.append(Find(_face(spots, float(row[4])), tile.level, turns, side))
    return finds


def _upright(points: Points, turns: int, size: tuple[int, int]) -> Points:
    """Return where points of a turned view are in the view before it was turned."""
    right, bottom = size[0] - 1.0, size[1] - 1.0
    x, y = points[:, 0], points[:, 1]
    places = [(x, y), (right - y, x), (right - x, bottom - y), (y, bottom - x)]
    return np.stack(places[turns], axis=1)


def _is_cut(low: Points, high: Points, tile: Tile) -> bool:
    left, above, right, below = tile.inner
    margin = _EDGE_SHARE * float((high - low).max())
    near_low = (low < margin) & (left, above)
    near_high = (high > np.array(tile.size) - 1 - margin) & (right, below)
    return bool(near_low.any() or near_high.any())


def _to_picture(points: Points, tile: Tile) -> Points:
    x0, y0, x1, y1 = tile.region
    ratio = np.array([x1 - x0, y1 - y0]) / tile.size
    return np.asarray((points + 0.5) * ratio - 0.5 + (x0, y0), np.float64)


def _face(spots: Points, score: float) -> Face:
    (x0, y0), (x1, y1), *marks = ((float(x), float(y)) for x, y in spots)
    return Face((x0, y0, x1, y1), (marks[0], marks[1], marks[2], marks[3], marks[4]), score)


def _is_rolled(find: Find) -> bool:
    """Tell whether a face is rolled too far in its view, by the line from the eyes to the mouth."""
    left, right, _, *mouth = np.array(find.face.landmarks)
    across, down = (mouth[0] + mouth[1] - left - right).tolist()
    roll = math.degrees(math.atan2(across, down)) + 90.0 * find.turns
    return abs((roll + 180.0) % 360.0 - 180.0) > _ROLL_DEG


def merge(finds: Sequence[Find], factors: Sequence[float]) -> list[Face]:
    """Make one list of faces, each once, out of the finds of all views.

    Of the finds that are one face, those in the views turned one way outweigh the others, and of
    those that stays which is best supported by its score and by its size among the anchors. It gets
    the best of their scores; less, where no other level that should see the face does. Left out are
    the pieces of a face that is too large for a level.

    Args:
        finds: of all tiles, turned or not.
        factors: of the levels.

    Returns:
        The most certain first.
    """
    groups = _group(finds, factors)
    faces = [
        _judged(group, factors)
        for group in groups
        if not any(_is_piece(group, other, factors) for other in groups)
    ]
    return sorted(faces, key=lambda face: -face.score)


@dataclass(frozen=True, slots=True)
class _Group:
    """Finds that are one face.

    Attributes:
        best: the best supported of those that were turned the right way.
        score: the best of their scores; less, where the landmarks aren't to be trusted.
        levels: where those were found.
        beyond: where it was found so turned, but larger than the anchors.
    """

    best: Find
    score: float
    levels: frozenset[int]
    beyond: frozenset[int]


def _fits(find: Find, factors: Sequence[float]) -> bool:
    return find.side_px <= _LARGEST_SIDE_PX or find.level == len(factors) - 1


def _group(finds: Sequence[Find], factors: Sequence[float]) -> list[_Group]:
    """Put each find to the best supported one that it overlaps with.

    A box that is too large for the anchors is evidence for the one it is put to, and nothing alone.
    """
    ranked = sorted(finds, key=lambda find: (_fits(find, factors), _support(find)), reverse=True)
    boxes = np.array([find.face.box for find in ranked], np.float64).reshape(-1, 4)
    turns = np.array([find.turns for find in ranked])
    alone = np.ones(len(ranked), np.bool_)
    groups = []
    for index, best in enumerate(ranked):
        if alone[index] and _fits(best, factors):
            limit = np.where(turns == best.turns, _SAME_OVERLAP, _SAME_OVERLAP_TURNED)
            same = alone & (overlaps(boxes[index], boxes) > limit)
            same[index] = True
            alone &= ~same
            groups.append(_make_group([ranked[i] for i in np.flatnonzero(same)], factors))
    return groups


def _make_group(members: Sequence[Find], factors: Sequence[float]) -> _Group:
    """Make a group of finds, the best supported first.

    Which way the face is turned is decided by the sum of the evidence: of the scores' log-odds,
    lowered where it lies on its side. Where one that stays has it so, none is to be trusted.
    """
    sound = [find for find in members if _fits(find, factors)]
    evidence = {find.turns: 0.0 for find in sound}
    for find in members:
        score = min(find.face.score, _SURE_SCORE) * (_MISJUDGED if _is_rolled(find) else 1.0)
        if find.turns in evidence:
            evidence[find.turns] += max(0.0, math.log(score / (1.0 - score)))
    turns = max(evidence, key=evidence.__getitem__)
    upright = [find for find in sound if find.turns == turns]
    score = max(find.face.score for find in upright)
    if any(find.face.score >= _MISJUDGED and _is_rolled(find) for find in upright):
        score *= _MISJUDGED
    levels = frozenset(find.level for find in upright)
    beyond = frozenset(find.level for find in members if find.turns == turns) - levels
    return _Group(upright[0], score, levels, beyond)


def _support(find: Find) -> float:
    return find.face.score - _OCTAVE * abs(math.log2(find.side_px / _BEST_SIDE_PX))


def _is_piece(group: _Group, other: _Group, factors: Sequence[float]) -> bool:
    """Tell whether a group is a part of a face that is too large for the level it was found at."""
    part, whole = group.best, other.best
    return (
        group.levels == {part.level}
        and whole.level > part.level
        and side_px(whole.face.box) * factors[part.level] > _PIECES_SIDE_PX
        and share_inside(part.face.box, whole.face.box) > 0.5
    )


def _judged(group: _Group, factors: Sequence[float]) -> Face:
    """Return the face of a group, with a lower score where the other levels don't confirm it.

    Most pictures are upright, so a turned face has to be confirmed however small it is; not by
    levels at which it is too large for the anchors.
    """
    side, level = side_px(group.best.face.box), group.best.level
    low, high = (0, _LARGEST_SIDE_PX) if group.best.turns else _SURE_SIDES_PX
    others = {
        other
        for other, factor in enumerate(factors)
        if other != level and low <= side * factor <= high
    }
    confirmed = not others or bool(others & (group.levels | group.beyond))
    return replace(group.best.face, score=group.score * (1.0 if confirmed else _UNCONFIRMED))
