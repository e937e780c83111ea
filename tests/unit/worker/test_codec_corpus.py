"""Every photograph of the shared corpus ends as its manifest says, and nothing of it is lost."""

from pathlib import Path

import numpy as np
import pytest

from jobs.errors import (
    PhotoCorrupt,
    PhotoEmpty,
    PhotoTooLarge,
    PhotoTruncated,
    PhotoUnsupported,
)
from tests.unit.worker.whole import encode
from worker.codec import decode
from worker.codec.limits import Limits

CORPUS = Path(__file__).parents[4] / "shared" / "corpus"
FILES = sorted(path for path in CORPUS.glob("*/*") if path.is_file())
MAX_PIXELS = 100_000_000
REFUSED = {
    "malformed/zero_bytes.jpg": PhotoEmpty,
    "malformed/text.jpg": PhotoUnsupported,
    "malformed/html.tif": PhotoUnsupported,
    "malformed/truncated_50.jpg": PhotoTruncated,
    "malformed/truncated_98.jpg": PhotoTruncated,
    "malformed/truncated.png": PhotoTruncated,
    "malformed/truncated_ifd.tif": PhotoTruncated,
    "malformed/bad_crc.png": PhotoCorrupt,
    "malformed/bomb_header_60000x60000.png": PhotoTooLarge,
    "malformed/bomb_real_30000x30000_1bit.png": PhotoTooLarge,
    "malformed/bomb_header_200000x200000.tif": PhotoTooLarge,
}
#: Encoding takes long: the way there and back is tried with the smaller ones.
MAX_BYTES = 200_000

pytestmark = pytest.mark.skipif(not FILES, reason="../shared/corpus isn't here")


def name(path):
    return path.relative_to(CORPUS).as_posix()


@pytest.mark.parametrize("path", [p for p in FILES if name(p) in REFUSED], ids=name)
def test_a_broken_or_unsupported_file_fails_with_its_fitting_error(path):
    with pytest.raises(REFUSED[name(path)]):
        decode(path.read_bytes(), limits=Limits(MAX_PIXELS))


@pytest.mark.parametrize("path", [p for p in FILES if name(p) not in REFUSED], ids=name)
def test_a_readable_file_comes_back_with_every_sample_and_all_that_it_carried(path):
    data = path.read_bytes()
    master = decode(data, limits=Limits(MAX_PIXELS))
    if len(data) > MAX_BYTES:
        return
    pixels = [page.pixels for page in master.pages]
    encoded = encode(master, pixels, output="same", jpeg_quality=95, software="test")
    derivative = decode(encoded.data, limits=Limits(MAX_PIXELS))
    for before, after in zip(master.pages, derivative.pages, strict=True):
        np.testing.assert_array_equal(before.pixels, after.pixels)
        assert (before.pixels.dtype, before.gray) == (after.pixels.dtype, after.gray)
        assert (before.alpha is None) == (after.alpha is None)
        if before.alpha is not None:
            np.testing.assert_array_equal(before.alpha.samples, after.alpha.samples)
        assert before.metadata.icc == after.metadata.icc
        assert before.metadata.xmp == after.metadata.xmp


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 6, 8])
def test_the_same_portrait_stands_upright_in_every_orientation(orientation):
    first = CORPUS / "formats" / "exif_orient_1.jpg"
    other = CORPUS / "formats" / f"exif_orient_{orientation}.jpg"
    expected, found = (
        decode(path.read_bytes(), limits=Limits(MAX_PIXELS)).pages[0].pixels.astype(int)
        for path in (first, other)
    )
    assert np.abs(expected - found).mean() < 4  # each was compressed on its own
