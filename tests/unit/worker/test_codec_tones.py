"""Whatever range the engine is shown, a derivative has the tones that viewers see in the master."""

from io import BytesIO

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from gpen_engine import Restoration
from tests.unit.worker.audit.archive import found
from tests.unit.worker.codec_masters import HEIGHT, WIDTH, jp2, photo, tiff
from tests.unit.worker.whole import encode
from worker.audit.untouched import Proven, prove
from worker.codec import decode
from worker.codec.limits import Limits

GRAY, COLOUR = photo(1, np.uint16), photo(3, np.uint16)
WHITE = 65535
#: A master in which only some bits are used, and what any viewer shows of it.
DIM = {
    "12 bits gray": (lambda: tiff(GRAY >> 4), GRAY >> 4),
    "12 bits colour": (lambda: tiff(COLOUR >> 4), COLOUR >> 4),
    "14 bits, 0 is white": (
        lambda: tiff(GRAY >> 2, photometric="miniswhite"),
        WHITE - (GRAY >> 2),
    ),
    "12 bits in JPEG 2000 of 16": (lambda: jp2(GRAY >> 4, 16), GRAY >> 4),
}
FACE = slice(8, 24), slice(12, 30)


def derive(data, output):
    """A derivative in which the engine has darkened a box of what it was shown."""
    photograph = decode(data, limits=Limits(HEIGHT * WIDTH))
    restored = photograph.pages[0].pixels.copy()
    restored[FACE] = np.rint(restored[FACE] * 0.8)
    encoded = encode(photograph, [restored], output=output, jpeg_quality=95, software="test")
    return photograph, restored, encoded


@pytest.mark.parametrize("name", DIM)
def test_the_engine_is_shown_a_dim_scan_over_the_full_range(name):
    photograph, _, _ = derive(DIM[name][0](), "same")
    assert photograph.pages[0].pixels.max() > 0.75 * WHITE
    assert photograph.pages[0].pixels.min() < 0.25 * WHITE


@pytest.mark.parametrize("name", DIM)
def test_a_png_has_the_tones_of_the_master_and_not_those_shown_to_the_engine(name):
    make, expected = DIM[name]
    _, _, encoded = derive(make(), "png")
    stored = imagecodecs.png_decode(encoded.data)
    outside = np.ones(stored.shape[:2], bool)
    outside[FACE] = False
    np.testing.assert_array_equal(stored[outside], expected[outside])


@pytest.mark.parametrize("name", DIM)
def test_a_restored_face_has_the_tones_of_its_surroundings(name):
    make, expected = DIM[name]
    _, _, encoded = derive(make(), "png")
    face, before = imagecodecs.png_decode(encoded.data)[FACE], expected[FACE]
    if "white" in name:  # lighter tones are the smaller numbers that the scan has
        darkest, lightest = WHITE - 2**14 + 1, WHITE
    else:
        darkest, lightest = 0, 2**12 - 1
    darkened = darkest + (before.astype(float) - darkest) * 0.8
    assert np.abs(face - darkened).max() <= 1
    assert face.max() <= lightest


@pytest.mark.parametrize("name", DIM)
def test_a_jpeg_has_the_tones_of_the_master_too(name):
    make, expected = DIM[name]
    _, _, encoded = derive(make(), "jpeg")
    with Image.open(BytesIO(encoded.data)) as image:
        stored = np.asarray(image).astype(float)
    outside = np.ones(stored.shape[:2], bool)
    outside[FACE] = False
    assert np.abs(stored - expected / 257)[outside].max() <= 6


@pytest.mark.parametrize("name", DIM)
@pytest.mark.parametrize("output", ["same", "png", "tiff"])
def test_such_a_derivative_is_proved_to_be_the_master_outside_its_faces(name, output):
    photograph, restored, encoded = derive(DIM[name][0](), output)
    rows, columns = FACE
    region = (columns.start, rows.start, columns.stop, rows.stop)
    restoration = Restoration(restored, (found(region),), {})
    proof = prove(photograph, [restoration], encoded, background=False)
    assert proof.stored is Proven.IDENTICAL
    channels = photograph.pages[0].own.shape[2]
    assert proof.samples_compared == (HEIGHT * WIDTH - 16 * 18) * channels
