"""What EXIF tells of width and height is true of the upright picture, whoever turned it."""

import struct
from io import BytesIO

import pillow_heif
import pytest
from PIL import Image

from tests.unit.worker.codec_masters import photo, pillow
from worker.codec import decode
from worker.codec.limits import Limits
from worker.codec.photograph import Unit

SHORT, LONG, RATIONAL = 3, 4, 5
ACROSS, DOWN = 0xA002, 0xA003
WIDTH_PX, HEIGHT_PX = 224, 160


def entry(code, kind, number):
    value = struct.pack("<HH", number, 0) if kind == SHORT else struct.pack("<I", number)
    return struct.pack("<HHI", code, kind, 1) + value


def block(orientation, *, across=SHORT, down=SHORT):
    """A block with 300 x 200 dots an inch and a size of 224 x 160."""
    first = [
        entry(0x112, SHORT, orientation),
        entry(0x11A, RATIONAL, 74),
        entry(0x11B, RATIONAL, 82),
        entry(0x128, SHORT, 2),
        entry(0x8769, LONG, 90),
    ]
    second = [entry(ACROSS, across, WIDTH_PX), entry(DOWN, down, HEIGHT_PX)]
    return b"".join(
        [
            b"II*\0\x08\0\0\0\x05\0",
            *first,
            bytes(4),
            struct.pack("<4I", 300, 1, 200, 1),
            b"\x02\0",
            *second,
            bytes(4),
        ]
    )


def heic(told):
    """A file that libheif writes: with the turn that the EXIF block tells as its own property."""
    picture = Image.fromarray(photo()).resize((WIDTH_PX, HEIGHT_PX))
    out = BytesIO()
    pillow_heif.from_pillow(picture).save(out, quality=90, exif=b"Exif\0\0" + told)
    return out.getvalue()


def decoded(data):
    (page,) = decode(data, limits=Limits(100_000)).pages
    return page


def sizes_of(page):
    told = Image.Exif()
    told.load(b"Exif\0\0" + page.metadata.exif)
    camera = told.get_ifd(0x8769)
    return told.get(0x112), (camera[ACROSS], camera[DOWN]), (told[0x11A], told[0x11B])


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_exif_of_a_heic_picture_on_its_side_tells_the_upright_one(orientation):
    page = decoded(heic(block(orientation)))
    assert page.pixels.shape[:2] == (WIDTH_PX, HEIGHT_PX)
    assert sizes_of(page) == (1, (HEIGHT_PX, WIDTH_PX), (200, 300))
    assert (page.metadata.resolution.x, page.metadata.resolution.y) == (200, 300)
    assert page.metadata.resolution.unit is Unit.INCH


@pytest.mark.parametrize("orientation", [1, 2, 3, 4])
def test_exif_of_a_heic_picture_that_keeps_its_sides_keeps_its_sizes(orientation):
    page = decoded(heic(block(orientation)))
    assert page.pixels.shape[:2] == (HEIGHT_PX, WIDTH_PX)
    assert sizes_of(page) == (1, (WIDTH_PX, HEIGHT_PX), (300, 200))


def test_exif_of_a_heic_picture_whose_own_turn_is_missing_keeps_its_sizes():
    page = decoded(heic(block(6)).replace(b"irot", b"free"))
    assert page.pixels.shape[:2] == (HEIGHT_PX, WIDTH_PX)
    assert sizes_of(page) == (1, (WIDTH_PX, HEIGHT_PX), (300, 200))


@pytest.mark.parametrize("kinds", [(SHORT, LONG), (LONG, SHORT), (LONG, LONG)])
def test_width_and_height_change_places_though_they_are_stored_in_different_ways(kinds):
    told = block(6, across=kinds[0], down=kinds[1])
    page = decoded(pillow(photo(), "JPEG", exif=b"Exif\0\0" + told))
    assert sizes_of(page) == (1, (HEIGHT_PX, WIDTH_PX), (200, 300))
