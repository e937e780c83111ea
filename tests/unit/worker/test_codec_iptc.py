"""IPTC comes back in every container that has a place for it, whichever it came from."""

import shutil
import subprocess
from io import BytesIO

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.unit.worker.codec_masters import HEIGHT, IPTC, MASTERS, TAGS, WIDTH, photo, tiff
from tests.unit.worker.whole import encode
from worker.codec import decode
from worker.codec.limits import Limits

OUTPUTS = ["tiff", "png", "jpeg"]
PATHS = b"8BIM\x07\xd0\0\0\0\0\0\x04path"
THUMBNAIL = b"8BIM\x04\x0c\0\0\0\0\0\x05stale\0"
OTHER_IPTC = IPTC.replace(b"Nonymous", b"Lastname")
OTHER_RESOURCES = b"8BIM\x04\x04\0\0\0\0\0\x10" + OTHER_IPTC
PHOTOSHOP_BOX = bytes.fromhex("2c4c0100850440b9a03e562148d6dfeb")


def rewrite(data, output):
    photograph = decode(data, limits=Limits(HEIGHT * WIDTH))
    pixels = [page.pixels for page in photograph.pages]
    return encode(photograph, pixels, output=output, jpeg_quality=95, software="test")


def tiff_with(resources):
    """A file with IPTC in its own field beside Photoshop's resources."""
    return tiff(photo(), extratags=[*TAGS, (34377, 7, len(resources), resources, True)])


def box(identifier, content):
    return (24 + len(content)).to_bytes(4) + b"uuid" + identifier + content


def jp2_with(resources):
    """A JPEG 2000 file whose IPTC lies only among Photoshop's resources."""
    data = MASTERS["jp2 rgb"]()
    identifier = bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38")
    old = box(identifier, IPTC)
    assert old in data
    return data.replace(old, box(PHOTOSHOP_BOX, resources))


def described(data):
    """What lies where other programs look for IPTC, and no copy of a TIFF field within EXIF."""
    if data[:2] in {b"II", b"MM"}:
        with tifffile.TiffFile(BytesIO(data)) as file:
            tags = file.pages[0].tags
            return b"".join(bytes(tags.valueof(code, b"")) for code in (33723, 34377))
    if data[1:4] == b"PNG":
        with Image.open(BytesIO(data)) as image:
            profile = image.info["Raw profile type iptc"]
        return bytes.fromhex("".join(profile.split("\n")[3:]))
    start = data.index(b"Photoshop 3.0\0")
    return data[start : start + int.from_bytes(data[start - 2 : start])]


@pytest.mark.parametrize("output", OUTPUTS)
def test_iptc_beside_photoshops_resources_comes_back_with_them(output):
    found = described(rewrite(tiff_with(PATHS), output).data)
    assert IPTC in found
    assert PATHS in found


@pytest.mark.parametrize("output", ["png", "jpeg"])
def test_iptc_that_stands_twice_is_written_once(output):
    (page,) = decode(
        rewrite(tiff_with(PATHS + OTHER_RESOURCES), output).data, limits=Limits(10_000)
    ).pages
    assert page.metadata.photoshop == PATHS + OTHER_RESOURCES


@pytest.mark.parametrize("output", ["png", "jpeg"])
def test_of_two_iptc_blocks_that_differ_one_is_kept_and_that_is_said(output):
    assert any("IPTC" in note for note in rewrite(tiff_with(OTHER_RESOURCES), output).notes)
    same = OTHER_RESOURCES.replace(OTHER_IPTC, IPTC)
    assert not any("IPTC" in note for note in rewrite(tiff_with(same), output).notes)


def test_two_iptc_blocks_that_differ_both_stay_in_tiff():
    encoded = rewrite(tiff_with(OTHER_RESOURCES), "same")
    assert IPTC in encoded.data
    assert OTHER_IPTC in encoded.data


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("name", ["jp2 rgb", "jp2 lossy", "jpeg rgb", "tiff rgb 8"])
def test_iptc_survives_from_one_kind_of_file_to_another(name, output):
    assert IPTC in described(rewrite(MASTERS[name](), output).data)


def test_iptc_of_a_jpeg_2000_file_gets_its_own_field_in_tiff():
    with tifffile.TiffFile(BytesIO(rewrite(MASTERS["jp2 rgb"](), "tiff").data)) as file:
        assert bytes(file.pages[0].tags.valueof(33723)) == IPTC


@pytest.mark.parametrize("output", ["same", *OUTPUTS])
def test_photoshops_resources_of_a_jpeg_2000_file_come_back_without_their_thumbnail(output):
    encoded = rewrite(jp2_with(PATHS + THUMBNAIL + OTHER_RESOURCES), output)
    (page,) = decode(encoded.data, limits=Limits(10_000)).pages
    np.testing.assert_equal(page.metadata.photoshop, PATHS + OTHER_RESOURCES)
    assert b"stale" not in encoded.data


@pytest.mark.parametrize("output", ["same", *OUTPUTS])
@pytest.mark.parametrize("mark", [b"MeSa", b"AgHg", b"PHUT", b"DCSR"])
def test_no_thumbnail_stays_beside_resources_of_other_programs(mark, output):
    others = mark + PATHS[4:] + OTHER_RESOURCES
    encoded = rewrite(jp2_with(mark + PATHS[4:] + THUMBNAIL + OTHER_RESOURCES), output)
    (page,) = decode(encoded.data, limits=Limits(10_000)).pages
    assert page.metadata.photoshop == others
    assert b"stale" not in encoded.data


@pytest.mark.parametrize("tail", [b"\0\0", b"rubbish", PATHS[:-1]])
def test_no_thumbnail_stays_in_front_of_what_cannot_be_read(tail):
    (page,) = decode(jp2_with(PATHS + THUMBNAIL + tail), limits=Limits(10_000)).pages
    assert page.metadata.photoshop == PATHS + tail


def test_a_damaged_thumbnail_is_left_out_and_that_is_said():
    photograph = decode(jp2_with(PATHS + THUMBNAIL[:-4]), limits=Limits(10_000))
    assert photograph.pages[0].metadata.photoshop == PATHS
    assert any("resources are damaged" in note for note in photograph.notes)


@pytest.mark.skipif(not shutil.which("exiftool"), reason="exiftool isn't installed")
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("make", [lambda: tiff_with(PATHS), MASTERS["jp2 rgb"]])
def test_exiftool_finds_the_author(make, output, tmp_path):
    encoded = rewrite(make(), output)
    path = tmp_path / f"derivative{encoded.suffix}"
    path.write_bytes(encoded.data)
    command = ["exiftool", "-s3", "-IPTC:By-line", str(path)]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert found.strip() == "A. Nonymous"
