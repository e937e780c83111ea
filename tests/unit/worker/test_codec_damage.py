"""Whatever the bytes are, decoding ends with a picture or with one of the photo errors."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

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

MAX_PIXELS = 40 * 56 * 2
PHOTO_ERRORS = (PhotoCorrupt, PhotoEmpty, PhotoTooLarge, PhotoTruncated, PhotoUnsupported)


def picture():
    small = np.random.default_rng(7).integers(0, 255, (10, 14, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((56, 40), Image.Resampling.BICUBIC))


def pillow(kind, **options):
    out = BytesIO()
    Image.fromarray(picture()).save(out, kind, **options)
    return out.getvalue()


def told_other(data, code, value):
    """A file whose field tells something else."""
    with tifffile.TiffFile(BytesIO(data)) as file:
        at = file.pages[0].tags[code].valueoffset
    return data[:at] + struct.pack("<H", value) + data[at + 2 :]


def inks(number):
    """The field that says which set of inks a page is separated for."""
    return {"extratags": [(332, 3, 1, number, True)]}


def tiff(array=None, **options):
    out = BytesIO()
    array = picture() if array is None else array
    tifffile.imwrite(out, array, photometric=options.pop("photometric", "rgb"), **options)
    return out.getvalue()


def exif():
    block = Image.Exif()
    block[274], block[315] = 6, "A. Nonymous"
    block.get_ifd(0x8769)[0x9003] = "1900:01:01 00:00:00"
    return block


FILES = {
    "jpeg": pillow("JPEG", exif=exif()),
    "progressive": pillow("JPEG", progressive=True),
    "png": pillow("PNG", exif=exif()),
    "webp": pillow("WEBP", lossless=True, exif=exif()),
    "bmp": pillow("BMP"),
    "gif": pillow("GIF"),
    "jp2": pillow("JPEG2000"),
    "avif": pillow("AVIF"),
    "tiff": tiff(),
    "tiff_deflate": tiff(compression="zlib", predictor=True, rowsperstrip=16),
    "tiff_lzw_tiles": tiff(compression="lzw", tile=(32, 32)),
    "tiff_packbits": tiff(compression="packbits", rowsperstrip=8),
    "tiff_jpeg": tiff(compression="jpeg"),
    "bigtiff": tiff(picture().astype(np.uint16) * 257, bigtiff=True, byteorder=">"),
    "tiff_pages": tiff(np.stack([picture(), picture()]), compression="zlib"),
}
#: Bytes at the end that hold no part of the picture: GIF's trailer.
SPARE_BYTES = {"gif": 2}


def read(data, max_pixels=MAX_PIXELS):
    return decode(data, limits=Limits(max_pixels))


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_anywhere_is_never_taken_for_whole(name):
    data = FILES[name]
    end = len(data) - SPARE_BYTES.get(name, 0)
    for cut in {*range(16, end, max(1, end // 60)), *range(end - 12, end)}:
        with pytest.raises((PhotoTruncated, PhotoCorrupt)):
            read(data[:cut])


@pytest.mark.parametrize("name", ["jpeg", "progressive", "png", "tiff", "tiff_deflate", "webp"])
def test_a_file_cut_in_its_middle_is_called_truncated(name):
    with pytest.raises(PhotoTruncated):
        read(FILES[name][: len(FILES[name]) // 2])


@pytest.mark.parametrize("name", FILES)
@given(changes=st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=12))
@settings(max_examples=40, deadline=None)
def test_changed_bytes_give_a_picture_that_can_be_written_or_a_photo_error(name, changes):
    data = bytearray(FILES[name])
    for at, value in changes:
        data[at % len(data)] = value
    try:
        photograph = read(bytes(data))
    except PHOTO_ERRORS:
        return
    pixels = [page.pixels for page in photograph.pages]
    encoded = encode(photograph, pixels, output="tiff", jpeg_quality=95, software="test")
    for before, after in zip(photograph.pages, read(encoded.data).pages, strict=True):
        np.testing.assert_array_equal(before.pixels, after.pixels)


@given(start=st.sampled_from([data[:12] for data in FILES.values()]), rest=st.binary())
@settings(max_examples=200, deadline=None)
def test_a_promising_start_with_anything_behind_it_is_a_photo_error(start, rest):
    with pytest.raises(PHOTO_ERRORS):
        read(start + rest)


def test_no_bytes_are_empty():
    with pytest.raises(PhotoEmpty):
        read(b"")


@pytest.mark.parametrize("data", [b"dear archive, ...", b"<!doctype html>", b"\0", b"%PDF-1.7"])
def test_what_is_no_picture_is_unsupported(data):
    with pytest.raises(PhotoUnsupported):
        read(data)


@pytest.mark.parametrize("name", FILES)
def test_one_pixel_too_many_is_too_large(name):
    photograph = read(FILES[name])
    pixels = sum(page.pixels.shape[0] * page.pixels.shape[1] for page in photograph.pages)
    assert read(FILES[name], max_pixels=pixels).pages
    with pytest.raises(PhotoTooLarge):
        read(FILES[name], max_pixels=pixels - 1)


def test_a_header_that_promises_gigapixels_is_refused_before_decoding():
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk
    with pytest.raises(PhotoTooLarge, match="3600"):
        read(data + struct.pack(">I", zlib.crc32(chunk)) + bytes(20))


def test_trailing_bytes_behind_a_complete_jpeg_do_no_harm():
    whole, more = read(FILES["jpeg"]), read(FILES["jpeg"] + bytes(range(256)) * 16)
    np.testing.assert_array_equal(whole.pages[0].pixels, more.pages[0].pixels)


def test_a_jpeg_without_its_end_marker_is_truncated():
    with pytest.raises(PhotoTruncated, match="end marker"):
        read(FILES["jpeg"][:-2])


def test_a_flipped_bit_in_png_data_is_corrupt():
    data = bytearray(FILES["png"])
    data[data.index(b"IDAT") + 200] ^= 1
    with pytest.raises(PhotoCorrupt, match="checksum of a chunk 'IDAT'"):
        read(bytes(data))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (tiff(np.full((4, 4, 3), 900, np.float32)), "SMaxSampleValue"),
        (tiff(np.full((4, 4, 3), np.nan, np.float32)), "no numbers"),
        (tiff(np.zeros((4, 4, 4), np.uint8), photometric="separated", **inks(2)), "CMYK"),
        (tiff(np.zeros((4, 4, 3), np.uint8), photometric="itulab"), "ITULAB"),
        (tiff(np.zeros((4, 4, 3), np.int16)), "INT"),
        (tiff(np.zeros((4, 4, 5), np.uint8), extrasamples=[0, 0], planarconfig=1), "channels"),
        (tiff(np.zeros((4, 4), np.uint16), photometric="minisblack", bitspersample=12), "12 bits"),
        (tiff(compression="jpegxl"), "JPEGXL"),
        (told_other(tiff(picture()[:, :, 0], photometric="minisblack"), 259, 4), "8 bits"),
    ],
)
def test_a_tiff_that_cannot_be_restored_faithfully_is_unsupported_for_a_told_reason(data, reason):
    with pytest.raises(PhotoUnsupported, match=reason):
        read(data)


@pytest.mark.parametrize("told", [0, 3])
def test_a_page_whose_channels_lie_in_no_known_way_is_refused_not_filled_by_chance(told):
    """tifffile would decode a third of its tiles and return the rest as memory nobody filled."""
    planes = np.moveaxis(picture(), 2, 0)
    data = tiff(planes, planarconfig="separate", tile=(16, 32), compression="lzw")
    with pytest.raises(PhotoCorrupt, match="channels"):
        read(told_other(data, 284, told))


def test_running_out_of_memory_is_no_fault_of_the_file(monkeypatch):
    def fail(*_args, **_kwargs):
        raise MemoryError

    monkeypatch.setattr("worker.codec.png.imagecodecs.png_decode", fail)
    with pytest.raises(PhotoTooLarge, match="memory"):
        read(FILES["png"])


def jpeg_with(marker, payload):
    """The picture with one more segment at its start."""
    segment = bytes((0xFF, marker)) + struct.pack(">H", len(payload) + 2) + payload
    return FILES["jpeg"][:2] + segment + FILES["jpeg"][2:]


def jpeg_frame(marker, bits, channels):
    frame = struct.pack(">BHHB", bits, 40, 56, channels)
    return (
        b"\xff\xd8\xff"
        + bytes((marker,))
        + struct.pack(">H", 8)
        + frame
        + b"\xff\xda\0\x02\xff\xd9"
    )


@pytest.mark.parametrize(
    ("data", "error", "reason"),
    [
        (jpeg_frame(0xC3, 8, 3), PhotoUnsupported, "process 0xc3"),
        (jpeg_frame(0xC1, 12, 3), PhotoUnsupported, "12 bits"),
        (b"\xff\xd8\xff\xfe\0\x03x\xff\xda\0\x02\xff\xd9", PhotoCorrupt, "no frame header"),
        (b"\xff\xd8\xff\xfe\0\x03xJUNK", PhotoCorrupt, "no JPEG marker"),
        (b"\xff\xd8\xff\xd9\0\0", PhotoCorrupt, "none may be"),
    ],
)
def test_a_jpeg_header_that_makes_no_sense_is_refused_for_a_told_reason(data, error, reason):
    with pytest.raises(error, match=reason):
        read(data)


@pytest.mark.parametrize(
    ("marker", "payload", "word"),
    [
        (0xE2, b"ICC_PROFILE\0\x01\x02half", "ICC"),
        (0xE1, b"http://ns.adobe.com/xmp/extension/\0more", "XMP"),
    ],
)
def test_metadata_that_a_jpeg_holds_only_in_part_is_said(marker, payload, word):
    assert any(word in note for note in read(jpeg_with(marker, payload)).notes)


def test_fill_bytes_between_jpeg_segments_do_no_harm():
    filled = FILES["jpeg"][:2] + b"\xff\xff" + FILES["jpeg"][2:]
    np.testing.assert_array_equal(read(filled).pages[0].pixels, read(FILES["jpeg"]).pages[0].pixels)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_of_an_animation_the_first_picture_is_kept_and_that_is_said(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("white", "black")]
    out = BytesIO()
    options = {"lossless": True} if kind == "WEBP" else {}
    frames[0].save(out, kind, save_all=True, append_images=frames[1:], **options)
    photograph = read(out.getvalue())
    assert (photograph.pages[0].pixels == 255).all()
    assert any("animation" in note for note in photograph.notes)
