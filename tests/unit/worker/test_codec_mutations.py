"""Whatever happens to a file's bytes, decoding ends, with a true picture or with a photo error.

2,700 mutations of `MASTERS`: flipped bits, numbers at their limits, cuts, insertions, deletions and
changed TIFF fields. GPEN_MUTATIONS multiplies them.
"""

import logging
import os
import struct
import time
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.errors import (
    PhotoCorrupt,
    PhotoEmpty,
    PhotoTooLarge,
    PhotoTruncated,
    PhotoUnsupported,
)
from tests.unit.worker.codec_masters import HEIGHT, MASTERS, WIDTH
from tests.unit.worker.whole import encode
from worker.codec import Photograph, decode, ifd, read_header
from worker.codec.limits import Limits

MAX_PIXELS = HEIGHT * WIDTH * 8
MAX_CPU_S = 5
EACH = 36 * int(os.environ.get("GPEN_MUTATIONS", "1"))
PHOTO_ERRORS = (PhotoCorrupt, PhotoEmpty, PhotoTooLarge, PhotoTruncated, PhotoUnsupported)
LIMITS = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]

where = st.integers(0, 2**24)
flip = st.tuples(st.just("flip"), where, st.integers(0, 7))
number = st.tuples(st.just("number"), where, st.tuples(st.sampled_from(LIMITS), st.booleans()))
cut = st.tuples(st.just("cut"), where, st.none())
insertion = st.tuples(st.just("insert"), where, st.binary(min_size=1, max_size=9))
deletion = st.tuples(st.just("delete"), where, st.integers(1, 40))
part = st.sampled_from(["code", "type", "count", "value"])
field = st.tuples(st.just("field"), where, st.tuples(part, st.integers(0, 2**16 - 1)))
#: Most of what a header says lies in its first bytes.
early = st.tuples(st.just("early"), st.integers(0, 255), st.integers(0, 255))
mutations = st.lists(
    st.one_of(flip, number, cut, insertion, deletion, field, early), min_size=1, max_size=4
)


@cache
def master(name: str) -> bytes:
    return MASTERS[name]()


def mutate(data: bytes, steps: list[tuple]) -> bytes:
    out = bytearray(data)
    for kind, place, what in steps:
        if kind == "field":
            change_field(out, place, *what)
        elif out:
            MUTATIONS[kind](out, place % len(out), what)
    return bytes(out)


def flip_bit(out: bytearray, at: int, bit: int) -> None:
    out[at] ^= 1 << bit


def set_byte(out: bytearray, at: int, value: int) -> None:
    out[at] = value


def set_number(out: bytearray, at: int, what: tuple[int, bool]) -> None:
    value, big = what
    out[at : at + 4] = value.to_bytes(4, "big" if big else "little")


def cut_off(out: bytearray, at: int, _: None) -> None:
    del out[at:]


def insert(out: bytearray, at: int, what: bytes) -> None:
    out[at:at] = what


def delete(out: bytearray, at: int, length: int) -> None:
    del out[at : at + length]


MUTATIONS = {
    "flip": flip_bit,
    "early": set_byte,
    "number": set_number,
    "cut": cut_off,
    "insert": insert,
    "delete": delete,
}


def change_field(out: bytearray, place: int, part: str, value: int) -> None:
    """Overwrite a part of an entry of the first directory of a TIFF file, if it is one."""
    try:
        layout, link_at = ifd.read_header(out)
        at = ifd.follow(out, link_at, layout)
        table = ifd.unpack(out, at, layout)
    except (ValueError, struct.error):
        return
    number = (table.link_at - at) // layout.entry.size
    if not number:
        return
    entry = at + layout.count.size + place % number * layout.entry.size
    offset = {"code": 0, "type": 2, "count": 4, "value": layout.entry.size - layout.offset.size}
    size = 2 if part in {"code", "type"} else layout.offset.size
    small = value % 20 if part == "type" else value
    order = "little" if layout.order == "<" else "big"
    out[entry + offset[part] : entry + offset[part] + size] = small.to_bytes(size, order)


def assert_true_picture(photograph: Photograph, data: bytes) -> None:
    """Sizes, types and channels agree with each other, and with what the header says."""
    assert sum(page.pixels[:, :, 0].size for page in photograph.pages) <= MAX_PIXELS
    for page in photograph.pages:
        height, width, channels = page.pixels.shape
        assert height > 0 < width
        assert channels == 3
        assert page.pixels.dtype in (np.uint8, np.uint16)
        assert page.own.shape == (height, width, page.model.channels)
        if page.alpha is not None:
            assert page.alpha.samples.shape == (height, width)
            assert page.alpha.samples.dtype == page.own.dtype
    try:
        header = read_header(data, limits=Limits(MAX_PIXELS))
    except PHOTO_ERRORS:
        pytest.fail("a picture was decoded whose header is refused")
    sizes = [sorted((page.width, page.height)) for page in header.pages]
    assert sizes == [sorted(page.pixels.shape[1::-1]) for page in photograph.pages]


def assert_no_chance(photograph: Photograph, data: bytes) -> None:
    """Memory that nobody filled would differ the second time."""
    rubbish = np.full(HEIGHT * WIDTH * 40, 0xA5, np.uint8)
    del rubbish
    again = decode(data, limits=Limits(MAX_PIXELS))
    for one, other in zip(photograph.pages, again.pages, strict=True):
        np.testing.assert_array_equal(one.own, other.own)


@pytest.mark.parametrize("name", MASTERS)
@given(steps=mutations)
@settings(max_examples=EACH, deadline=None, derandomize="GPEN_MUTATIONS" not in os.environ)
def test_a_mutated_file_gives_a_true_picture_or_a_photo_error(name, steps):
    logging.disable(logging.CRITICAL)  # tifffile tells of every field that it can't read
    data = mutate(master(name), steps)
    start = time.process_time()
    try:
        photograph = decode(data, limits=Limits(MAX_PIXELS))
    except PHOTO_ERRORS:
        return
    finally:
        logging.disable(logging.NOTSET)
        assert time.process_time() - start < MAX_CPU_S
    assert_true_picture(photograph, data)
    assert_no_chance(photograph, data)
    pixels = [page.pixels for page in photograph.pages]
    encoded = encode(photograph, pixels, output="same", jpeg_quality=95, software="test")
    back = decode(encoded.data, limits=Limits(MAX_PIXELS))
    for one, other in zip(photograph.pages, back.pages, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)
