"""What lies beside a picture and isn't kept is said."""

from io import BytesIO

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from tests.unit.worker.codec_masters import heic, photo, pillow
from worker.codec import decode
from worker.codec.limits import Limits


def notes_of(data):
    return decode(data, limits=Limits(100_000)).notes


def jpeg(**options):
    return pillow(photo(), "JPEG", **options)


BEHIND = {
    "a film": b"\0\0\0\x18ftypmp42" + bytes(12) + b"frames",
    "another picture": jpeg(),
    "another picture behind filling": bytes(64) + jpeg(),
}


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("name", BEHIND)
def test_what_lies_behind_the_picture_of_a_jpeg_is_said(name, progressive):
    behind = BEHIND[name]
    (note,) = notes_of(jpeg(progressive=progressive) + behind)
    assert note.startswith(f"{len(behind)} bytes behind the picture")


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("filling", [b"", bytes(100), b"\xff\xff", b"\r\n"])
def test_filling_behind_the_picture_of_a_jpeg_is_nothing(filling, progressive):
    assert notes_of(jpeg(progressive=progressive) + filling) == ()


def test_an_end_marker_within_a_segment_between_scans_is_no_end():
    data = jpeg(progressive=True)
    at = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    comment = b"\xff\xfe\0\x08ab\xff\xd9cd"
    assert notes_of(data[:at] + comment + data[at:]) == ()
    assert len(notes_of(data[:at] + comment + data[at:] + b"more")) == 1


def webp_with(kind, body):
    data = pillow(photo(), "WEBP", lossless=True, icc_profile=None, exif=b"Exif\0\0" + bytes(8))
    length = len(data) - 8 + 8 + len(body) + len(body) % 2
    chunk = kind + len(body).to_bytes(4, "little") + body + bytes(len(body) % 2)
    return data[:4] + length.to_bytes(4, "little") + data[8:] + chunk


def test_a_chunk_of_a_webp_file_that_is_not_kept_is_named():
    assert any("'C2PA'" in note for note in notes_of(webp_with(b"C2PA", b"claim")))


def test_bytes_behind_a_webp_file_are_said():
    data = pillow(photo(), "WEBP", lossless=True)
    assert notes_of(data) == ()
    assert any("7 bytes behind" in note for note in notes_of(data + b"ftypmp4"))


def heic_with_auxiliary(kind):
    """A picture whose transparency is told to be something else: the names are equally long."""
    out = BytesIO()
    clear = np.dstack([photo(), np.full(photo().shape[:2], 99, np.uint8)])
    pillow_heif.from_pillow(Image.fromarray(clear)).save(out, quality=90)
    data, alpha = out.getvalue(), b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha"
    if alpha not in data:
        alpha = b"urn:mpeg:hevc:2015:auxid:1"
    assert alpha in data
    return data.replace(alpha, kind.ljust(len(alpha), b"_"))


def test_an_auxiliary_picture_of_a_heic_file_is_named():
    notes = notes_of(heic_with_auxiliary(b"urn:test:gainmap"))
    assert any("auxiliary picture 'urn:test:gainmap" in note for note in notes)


def test_transparency_of_a_heic_file_is_kept_and_not_named_as_something_else():
    out = BytesIO()
    clear = np.dstack([photo(), np.full(photo().shape[:2], 99, np.uint8)])
    pillow_heif.from_pillow(Image.fromarray(clear)).save(out, quality=90)
    photograph = decode(out.getvalue(), limits=Limits(100_000))
    assert photograph.pages[0].alpha is not None
    assert photograph.notes == ()


def test_a_thumbnail_of_a_heic_file_is_named():
    assert notes_of(heic(photo())) == ()
    out = BytesIO()
    file = pillow_heif.from_pillow(Image.fromarray(photo()).resize((224, 160)))
    file[0].info["thumbnails"] = [64]
    file.save(out, quality=90)
    assert any("thumbnail" in note for note in notes_of(out.getvalue()))
