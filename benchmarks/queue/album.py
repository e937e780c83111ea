"""Photos to measure with: the number of them goes in, files of about 20 KiB come out."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
import skimage.data
from PIL import Image

from jobs.schema import Candidate

_FACE = (130, 0, 330, 200)


def portraits(count: int, *, side_px: int = 256) -> dict[str, bytes]:
    """Return so many JPEG files of one face each, all different, by key."""
    whole = skimage.data.astronaut()  # type: ignore[no-untyped-call]
    face = Image.fromarray(whole).crop(_FACE)
    pixels = np.asarray(face.resize((side_px, side_px), Image.Resampling.LANCZOS))
    return {f"{number:04}.jpg": _jpeg(pixels, number) for number in range(count)}


def candidates(photos: Mapping[str, bytes]) -> Sequence[Candidate]:
    """Return what the producer would enter."""
    return [Candidate(key, len(data)) for key, data in photos.items()]


def _jpeg(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], seed: int) -> bytes:
    noise = np.random.default_rng(seed).normal(0, 6, pixels.shape)
    file = io.BytesIO()
    noisy = np.clip(pixels + noise, 0, 255).astype(np.uint8)
    Image.fromarray(noisy).save(file, "JPEG", quality=88)
    return file.getvalue()
