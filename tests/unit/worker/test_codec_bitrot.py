"""A JPEG whose scans are damaged decodes to wrong colours: whoever gets it is told."""

import io

import numpy as np
import pytest
from PIL import Image

from worker.codec import decode
from worker.codec.limits import Limits

TOLD = "the file is damaged, and parts of the picture may be wrong"


def jpeg(mode="RGB", **options):
    pixels = np.random.default_rng(3).integers(0, 256, (20, 30, 3), np.uint8)
    image = Image.fromarray(np.kron(pixels, np.ones((8, 8, 1), np.uint8))).convert(mode)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90, **options)
    return out.getvalue()


def told(data):
    return [note for note in decode(data, limits=Limits()).notes if note.startswith(TOLD)]


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_sound_file_has_no_such_note(mode, progressive):
    assert not told(jpeg(mode, progressive=progressive))


def test_bytes_that_rotted_in_the_scans_are_told():
    data = bytearray(jpeg())
    rng = np.random.default_rng(5)
    start = len(data) // 2
    for at in rng.integers(start, len(data) - 200, 30):
        data[at] = rng.integers(0, 255)
    assert told(bytes(data))


def test_bytes_behind_the_end_are_no_damage():
    assert not told(jpeg() + b"a short film")
