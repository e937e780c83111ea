"""Every file of the shared corpus ends as its manifest says."""

import csv
import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs.errors import (
    PhotoCorrupt,
    PhotoEmpty,
    PhotoTooLarge,
    PhotoTruncated,
    PhotoUnsupported,
)
from tests.unit.worker.delivery import MAX_PIXELS, deliver
from worker.codec import decode
from worker.codec.limits import Limits

CORPUS = Path(__file__).parents[4] / "shared" / "corpus"
MANIFEST = CORPUS / "MANIFEST.csv"
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

pytestmark = pytest.mark.skipif(not MANIFEST.exists(), reason="../shared/corpus isn't here")


def manifest():
    """What is told of each file, by its name."""
    if not MANIFEST.exists():
        return {}
    with MANIFEST.open(encoding="utf-8", newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


TOLD = manifest()
MALFORMED = [name for name in TOLD if name.startswith("malformed/")]
READABLE = [name for name in TOLD if name not in REFUSED]


def size_told(name):
    """Width and height, whichever comes first: the manifest has some upright, some as stored."""
    return sorted(int(side) for side in TOLD[name]["px"].split("x"))


def test_the_files_are_those_of_the_manifest():
    found = {path.relative_to(CORPUS).as_posix() for path in CORPUS.glob("*/*")}
    assert found == set(TOLD)
    for name, row in TOLD.items():
        assert hashlib.sha256((CORPUS / name).read_bytes()).hexdigest() == row["sha256"]


def test_what_is_refused_is_what_the_manifest_calls_unreadable_cut_damaged_or_too_large():
    expected = {
        name
        for name in MALFORMED
        if TOLD[name]["mode"].startswith("unreadable")
        or np.prod(size_told(name), dtype=float) > MAX_PIXELS
        or any(word in TOLD[name]["tests"] for word in (" cut", "CRC"))
    }
    assert not any("should succeed" in TOLD[name]["tests"] for name in expected)
    assert set(REFUSED) == expected


@pytest.mark.parametrize("name", REFUSED)
def test_a_broken_or_unsupported_file_fails_with_its_fitting_error(name):
    with pytest.raises(REFUSED[name]):
        deliver(name, (CORPUS / name).read_bytes())


@pytest.mark.parametrize("name", [name for name in MALFORMED if name not in REFUSED])
def test_an_unusual_file_is_delivered_in_its_size(name):
    found = deliver(name, (CORPUS / name).read_bytes())
    with Image.open(io.BytesIO(found.derivative)) as image:
        image.load()
        assert sorted(image.size) == size_told(name)


@pytest.mark.parametrize("name", READABLE)
def test_a_readable_file_has_the_size_that_the_manifest_tells(name):
    page = decode((CORPUS / name).read_bytes(), limits=Limits(MAX_PIXELS)).pages[0]
    if TOLD[name]["px"] != "-":
        assert sorted(page.pixels.shape[:2]) == size_told(name)


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 6, 8])
def test_the_same_portrait_stands_upright_in_every_orientation(orientation):
    first = CORPUS / "formats" / "exif_orient_1.jpg"
    other = CORPUS / "formats" / f"exif_orient_{orientation}.jpg"
    expected, found = (
        decode(path.read_bytes(), limits=Limits(MAX_PIXELS)).pages[0].pixels.astype(int)
        for path in (first, other)
    )
    assert np.abs(expected - found).mean() < 4  # each was compressed on its own
