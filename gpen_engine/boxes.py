"""Boxes (x0, y0, x1, y1) in pixels: how large they are, and what they share."""

import numpy as np
from numpy.typing import NDArray

from gpen_engine.faces import Box

Boxes = NDArray[np.float64]


def side_px(box: Box) -> float:
    """Return the longer side."""
    return max(box[2] - box[0], box[3] - box[1])


def share_inside(box: Box, other: Box) -> float:
    """Return which share of a box lies in another, 0 to 1."""
    area = (box[2] - box[0]) * (box[3] - box[1])
    return float(_shared(np.array(box), np.array([other]))[0]) / max(area, 1e-9)


def overlaps(box: Boxes, boxes: Boxes) -> Boxes:
    """Return a box's intersection over union with each of `boxes` `(N, 4)`."""
    shared = _shared(box, boxes)
    return np.asarray(shared / np.maximum(_areas(box) + _areas(boxes) - shared, 1e-9))


def _areas(boxes: Boxes) -> Boxes:
    return np.asarray((boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1]))


def _shared(box: Boxes, boxes: Boxes) -> Boxes:
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    return np.asarray(np.clip(high - low, 0.0, None).prod(axis=1))
