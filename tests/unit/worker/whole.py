"""Whole pictures where the codec takes rows: what a test makes with NumPy."""

from collections.abc import Sequence
from typing import BinaryIO

import numpy as np

from gpen_engine import Restoration
from worker import codec
from worker.codec import Encoded, Page, Photograph
from worker.scratch import Scratch


def restored(pixels: np.ndarray) -> Restoration:
    """A picture as the engine returns it, without any face."""
    return Restoration(pixels, (), {})


def encode(photograph: Photograph, pixels: Sequence[np.ndarray], **options: object) -> Encoded:
    """Encode a photograph with these pixels."""
    return codec.encode(photograph, [restored(one) for one in pixels], **options)


def own_samples(page: Page, pixels: np.ndarray) -> np.ndarray:
    """All of a page's own samples, with these pixels."""
    return codec.own_rows(page, restored(pixels), slice(None))


def file_of(data: bytes) -> BinaryIO:
    """An open file with these bytes."""
    file = Scratch().file(len(data))
    file.write(data)
    return file
