"""JPEG 2000: which channel is which, how many pictures there are, and what was stored exactly."""

import struct

import imagecodecs
import numpy as np
import pytest

from jobs.errors import PhotoUnsupported
from tests.unit.worker.codec_masters import HEIGHT, WIDTH, exif, jp2, photo
from tests.unit.worker.whole import encode
from worker.codec import decode, output_suffix, read_header
from worker.codec.jp2_codestream import is_reversible
from worker.codec.limits import Limits
from worker.codec.photograph import AlphaKind

LIMITS = Limits(HEIGHT * WIDTH)
COLOUR, OPACITY, PREMULTIPLIED, UNSPECIFIED, NO_COLOUR = 0, 1, 2, 65535, 65535
STRAIGHT_BGR = [(0, COLOUR, 3), (1, COLOUR, 2), (2, COLOUR, 1)]
ALPHA_FIRST = [(0, OPACITY, 0), (1, COLOUR, 1), (2, COLOUR, 2), (3, COLOUR, 3)]


def box(kind, body):
    return (8 + len(body)).to_bytes(4) + kind + body


def with_header(data, change):
    """A file whose header's boxes were changed."""
    at = data.index(b"jp2h") - 4
    end = at + int.from_bytes(data[at : at + 4])
    return data[:at] + box(b"jp2h", change(data[at + 8 : end])) + data[end:]


def defined(array, definitions, bits=8):
    """A file that tells what each of its channels is, in place of what the encoder wrote."""

    def define(header):
        if b"cdef" in header:
            at = header.index(b"cdef") - 4
            header = header[:at] + header[at + int.from_bytes(header[at : at + 4]) :]
        body = b"".join(struct.pack(">HHH", *one) for one in definitions)
        return header + box(b"cdef", len(definitions).to_bytes(2) + body)

    return with_header(jp2(array, bits), define)


def specified(array, specification, bits=8):
    """A file with another colour specification."""

    def specify(header):
        at = header.index(b"colr") - 4
        end = at + int.from_bytes(header[at : at + 4])
        return header[:at] + box(b"colr", specification) + header[end:]

    return with_header(jp2(array, bits), specify)


def rewrite(data, output="same"):
    photograph = decode(data, limits=LIMITS)
    pixels = [page.pixels for page in photograph.pages]
    return encode(photograph, pixels, output=output, jpeg_quality=95, software="test")


def by_openjpeg(data):
    """What OpenJPEG makes of a whole file: it puts channels in their order itself."""
    return imagecodecs.jpeg2k_decode(data)


def test_colours_in_another_order_are_read_in_theirs():
    array = photo()
    (page,) = decode(defined(array[:, :, ::-1], STRAIGHT_BGR), limits=LIMITS).pages
    np.testing.assert_array_equal(page.pixels, array)


def test_a_derivative_of_channels_in_another_order_shows_the_same_picture():
    data = defined(photo()[:, :, ::-1], STRAIGHT_BGR)
    np.testing.assert_array_equal(by_openjpeg(data), photo())
    np.testing.assert_array_equal(by_openjpeg(rewrite(data).data), photo())
    np.testing.assert_array_equal(imagecodecs.png_decode(rewrite(data, "png").data), photo())


def test_the_order_of_channels_stays_as_the_file_tells_it():
    data = defined(photo(4)[:, :, [3, 0, 1, 2]], ALPHA_FIRST)
    encoded = rewrite(data).data
    at = encoded.index(b"jp2c") + 4
    np.testing.assert_array_equal(
        imagecodecs.jpeg2k_decode(encoded[at:]), photo(4)[:, :, [3, 0, 1, 2]]
    )


def test_transparency_may_lie_anywhere():
    array = photo(4)
    photograph = decode(defined(array[:, :, [3, 0, 1, 2]], ALPHA_FIRST), limits=LIMITS)
    (page,) = photograph.pages
    np.testing.assert_array_equal(page.pixels, array[:, :, :3])
    np.testing.assert_array_equal(page.alpha.samples, array[:, :, 3])
    assert page.alpha.kind is AlphaKind.STRAIGHT


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (OPACITY, AlphaKind.STRAIGHT),
        (PREMULTIPLIED, AlphaKind.ASSOCIATED),
        (UNSPECIFIED, AlphaKind.UNSPECIFIED),
    ],
)
@pytest.mark.parametrize("channels", [2, 4])
def test_transparency_is_what_the_file_says(channels, kind, expected):
    colours = [(index, COLOUR, index + 1) for index in range(channels - 1)]
    data = defined(photo(channels), [*colours, (channels - 1, kind, 0)])
    (page,) = decode(data, limits=LIMITS).pages
    assert page.alpha.kind is expected
    assert read_header(data, limits=LIMITS).pages[0].alpha is expected


def test_premultiplied_colours_stay_so_where_a_format_can_tell():
    colours = [(index, COLOUR, index + 1) for index in range(3)]
    data = defined(photo(4), [*colours, (3, PREMULTIPLIED, 0)])
    (page,) = decode(rewrite(data).data, limits=LIMITS).pages
    assert page.alpha.kind is AlphaKind.ASSOCIATED
    with pytest.raises(PhotoUnsupported, match="associated"):
        output_suffix(decode(data, limits=LIMITS), "png")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(specified(photo(4), b"\1\0\0\0\0\0\x0c"), id="CMYK"),
        pytest.param(specified(photo(), b"\1\0\0\0\0\0\x12"), id="YCC"),
        pytest.param(
            specified(photo(4), b"\2\0\0" + bytes(16) + b"CMYK" + bytes(16) + b"acsp" + bytes(99)),
            id="CMYK by profile",
        ),
        pytest.param(specified(photo(3), b"\1\0\0\0\0\0\x11"), id="three channels of gray"),
        pytest.param(specified(photo(2), b"\1\0\0\0\0\0\x10"), id="two channels of RGB"),
        pytest.param(defined(photo(), [(0, COLOUR, 1), (1, COLOUR, 2)]), id="one isn't defined"),
        pytest.param(
            defined(photo(), [(0, COLOUR, 1), (1, COLOUR, 1), (2, COLOUR, 3)]), id="two reds"
        ),
        pytest.param(
            defined(photo(), [(0, COLOUR, 1), (1, OPACITY, 0), (2, OPACITY, 0)]), id="two alphas"
        ),
        pytest.param(
            defined(photo(4), [*((i, COLOUR, i + 1) for i in range(3)), (3, OPACITY, 2)]),
            id="alpha of green",
        ),
        pytest.param(
            defined(photo(4), [*((i, COLOUR, i + 1) for i in range(3)), (3, 9, 0)]), id="kind 9"
        ),
        pytest.param(defined(photo(4), [(i, COLOUR, i + 1) for i in range(4)]), id="four colours"),
    ],
)
def test_channels_that_are_not_gray_or_rgb_with_alpha_are_refused(data):
    with pytest.raises(PhotoUnsupported, match="JPEG 2000"):
        decode(data, limits=LIMITS)
    with pytest.raises(PhotoUnsupported, match="JPEG 2000"):
        read_header(data, limits=LIMITS)


def test_of_several_pictures_the_first_is_kept_and_that_is_said():
    data = jp2(photo(), 8)
    at = data.index(b"jp2c") - 4
    photograph = decode(data + data[at:], limits=LIMITS)
    assert any("2 pictures" in note for note in photograph.notes)
    assert not decode(data, limits=LIMITS).notes
    np.testing.assert_array_equal(by_openjpeg(rewrite(data + data[at:]).data), photo())


@pytest.mark.parametrize("output", ["png", "tiff"])
@pytest.mark.parametrize("lossless", [True, False])
def test_a_box_that_other_formats_cannot_hold_is_named(lossless, output):
    data = jp2(photo(), 8, lossless=lossless)
    at = data.index(b"jp2c") - 4
    data = data[:at] + box(b"xml ", b"<record/>") + data[at:]
    notes = [*decode(data, limits=LIMITS).notes, *rewrite(data, output).notes]
    assert sum("'xml '" in note for note in notes) == 1
    assert sum("left out" in note for note in notes) == 1
    if lossless:
        assert b"<record/>" in rewrite(data).data


def codestream(data):
    return data[data.index(b"jp2c") + 4 :]


def segment(marker, body):
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2) + body


def with_segment(data, extra):
    """A file with one more segment behind the first one of its codestream, which is its size."""
    at = data.index(b"jp2c") + 4
    end = at + 4 + int.from_bytes(data[at + 4 : at + 6])
    return data[: at - 8] + box(b"jp2c", data[at:end] + extra + data[end:])


def is_kept(data):
    return output_suffix(decode(data, limits=LIMITS), "same") == ".jp2"


def test_a_file_of_whole_numbers_stays_jpeg_2000_and_any_other_becomes_png():
    assert is_kept(jp2(photo(), 8))
    assert not is_kept(jp2(photo(), 8, lossless=False))


def test_a_comment_is_not_taken_for_the_way_of_coding():
    likeness = b"\xff\x52" + bytes(11) + b"\1"
    assert not is_kept(with_segment(jp2(photo(), 8, lossless=False), segment(0x64, likeness)))
    likeness = b"\xff\x52" + bytes(12)
    assert is_kept(with_segment(jp2(photo(), 8), segment(0x64, likeness)))


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param((b"\xff\x5c", 4, 0x22), id="rounded"),
        pytest.param((b"\xff\x52", 13, 0), id="wavelets of real numbers"),
    ],
)
def test_numbers_that_are_rounded_on_their_way_are_not_kept_for_whole(changed):
    mark, offset, value = changed
    data = bytearray(codestream(jp2(photo(), 8)))
    assert is_reversible(bytes(data))
    data[data.index(mark) + offset] = value
    assert not is_reversible(bytes(data))


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param(segment(0x53, b"\1\0\5\4\4\0\0"), id="wavelets of one component"),
        pytest.param(segment(0x5D, b"\1\x22" + bytes(32)), id="steps of one component"),
    ],
)
def test_one_component_that_is_not_exact_is_enough(extra):
    data = codestream(jp2(photo(), 8))
    at = data.index(b"\xff\x64")
    assert not is_reversible(data[:at] + extra + data[at:])


def resolution(kind, down, across):
    return box(kind, struct.pack(">HHHHbb", down, 1, across, 1, 0, 0))


def with_resolutions(data, *boxes):
    def specify(header):
        return header[: header.index(b"res ") - 4] + box(b"res ", b"".join(boxes))

    return with_header(data, specify)


def resolutions_of(data):
    """Points in a metre, down and across, by the kind of box."""
    found = {}
    for kind in (b"resc", b"resd"):
        at = data.index(kind) + 4
        down, under, across, below, *powers = struct.unpack_from(">HHHHbb", data, at)
        found[kind] = (down / under * 10 ** powers[0], across / below * 10 ** powers[1])
    return found


BOTH = resolution(b"resc", 11811, 5905), resolution(b"resd", 2835, 1417)
TURNED_EXIF = exif(6).tobytes().removeprefix(b"Exif\0\0")
ADOBE_EXIF = bytes.fromhex("0537cdab9d0c4431a72afa561f2a113e")
XMP_BOX = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")


def turned(identifier=b"JpgTiffExif->JP2"):
    data = jp2(photo(), 8)
    upright = exif().tobytes().removeprefix(b"Exif\0\0")
    assert upright in data
    return data.replace(b"JpgTiffExif->JP2" + upright, identifier + TURNED_EXIF)


def test_a_picture_for_print_and_screen_keeps_both_resolutions():
    data = rewrite(with_resolutions(jp2(photo(), 8), *BOTH)).data
    assert resolutions_of(data) == {b"resc": (11811, 5905), b"resd": (2835, 1417)}


def test_both_resolutions_turn_with_the_picture():
    data = rewrite(with_resolutions(turned(), *BOTH)).data
    assert resolutions_of(data) == {b"resc": (5905, 11811), b"resd": (1417, 2835)}


def test_both_resolutions_grow_with_the_picture():
    photograph = decode(with_resolutions(jp2(photo(), 8), *BOTH), limits=LIMITS)
    larger = [page.pixels.repeat(2, 0).repeat(2, 1) for page in photograph.pages]
    data = encode(photograph, larger, output="same", jpeg_quality=95, software="test").data
    assert resolutions_of(data) == {b"resc": (23622, 11810), b"resd": (5670, 2834)}


def test_the_exif_block_that_photoshop_writes_turns_the_picture_and_stays_where_it_is():
    data = turned(ADOBE_EXIF)
    assert read_header(data, limits=LIMITS).pages[0].orientation == 6
    derivative = rewrite(data).data
    assert by_openjpeg(derivative).shape[:2] == (WIDTH, HEIGHT)
    assert derivative.count(ADOBE_EXIF) == 1
    assert b"JpgTiffExif" not in derivative
    assert TURNED_EXIF not in derivative
    again = decode(derivative, limits=Limits(HEIGHT * WIDTH)).pages[0]
    assert again.metadata.exif is not None
    assert again.pixels.shape[:2] == (WIDTH, HEIGHT)


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize(
    ("identifier", "name"),
    [(XMP_BOX, "XMP packets"), (ADOBE_EXIF, "EXIF blocks")],
    ids=["XMP", "EXIF"],
)
def test_what_stands_twice_is_kept_once_and_that_is_said(identifier, name, lossless):
    data = jp2(photo(), 8, lossless=lossless)
    at = data.index(b"jp2c") - 4
    photograph = decode(data[:at] + box(b"uuid", identifier + b"more") + data[at:], limits=LIMITS)
    assert photograph.notes == (f"of 2 {name} only the first was kept",)
