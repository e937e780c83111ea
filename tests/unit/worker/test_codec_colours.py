"""Colours that a file tells in an unusual place count, and come back; what can't is said."""

import struct
import zlib
from io import BytesIO

import imagecodecs
import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageCms

from jobs.errors import PhotoUnsupported
from tests.unit.worker.codec_masters import GRAY, SRGB, XMP, photo, pillow
from tests.unit.worker.whole import encode
from worker.codec import decode
from worker.codec.decode import read_header
from worker.codec.limits import Limits
from worker.colour import page_colour

LIMITS = Limits(100_000)
BT709, BT601, BT2020, P3 = 1, 6, 9, 12
GAMMA, LINEAR, SRGB_CURVE, PQ, HLG = 4, 8, 13, 16, 18
WHITE = (0.3127, 0.3290, 1)
PRIMARIES = {
    BT709: (0.640, 0.330, 1, 0.300, 0.600, 1, 0.150, 0.060, 1),
    BT601: (0.630, 0.340, 1, 0.310, 0.595, 1, 0.155, 0.070, 1),
    BT2020: (0.708, 0.292, 1, 0.170, 0.797, 1, 0.131, 0.046, 1),
    P3: (0.680, 0.320, 1, 0.265, 0.690, 1, 0.150, 0.060, 1),
}
LEVELS = np.linspace(0, 1, 4096)
CURVES = {
    GAMMA: LEVELS**2.2,
    LINEAR: LEVELS,
    SRGB_CURVE: np.where(LEVELS <= 0.04045, LEVELS / 12.92, ((LEVELS + 0.055) / 1.055) ** 2.4),
}


def heic(codes, samples=None):
    samples = photo(3, np.uint16) if samples is None else samples
    mode = "RGB;16" if samples.ndim == 3 else "L;16"
    out = BytesIO()
    file = pillow_heif.from_bytes(mode, samples.shape[1::-1], samples.tobytes())
    file.save(
        out,
        quality=90,
        save_nclx_profile=True,
        color_primaries=codes[0],
        transfer_characteristics=codes[1],
        matrix_coefficients=6,
        full_range_flag=1,
    )
    return out.getvalue()


def avif(codes, bits=8):
    samples = photo() if bits == 8 else photo(3, np.uint16) >> 16 - bits
    options = {"primaries": codes[0], "transfer": codes[1], "matrix": 6}
    return bytes(imagecodecs.avif_encode(samples, level=95, bitspersample=bits, **options))


def deep_avif(codes):
    return avif(codes, bits=10)


def with_chunk(data, kind, body):
    chunk = struct.pack(">I", len(body)) + kind + body
    return data[:33] + chunk + struct.pack(">I", zlib.crc32(kind + body)) + data[33:]


def png(codes):
    return with_chunk(pillow(photo(), "PNG"), b"cICP", bytes((*codes, 0, 1)))


def read(data):
    return decode(data, limits=LIMITS)


def derivative(data, output="same"):
    """What comes back of a file, and the notes of both ways."""
    photograph = read(data)
    made = encode(
        photograph,
        [page.pixels for page in photograph.pages],
        output=output,
        jpeg_quality=95,
        software="the pipeline",
    )
    return made, (*photograph.notes, *made.notes)


FILES = pytest.mark.parametrize("make", [heic, avif, deep_avif, png])


@FILES
@pytest.mark.parametrize(
    "codes", [(P3, SRGB_CURVE), (BT2020, SRGB_CURVE), (BT601, SRGB_CURVE), (P3, GAMMA), (1, LINEAR)]
)
def test_colours_told_by_codes_are_shown_as_littlecms_shows_them(make, codes):
    (page,) = read(make(codes)).pages
    curve = np.rint(CURVES[codes[1]] * 65535).astype(np.uint16)
    theirs = imagecodecs.cms_profile(
        "rgb", whitepoint=WHITE, primaries=PRIMARIES[codes[0]], transferfunction=curve
    )
    ours = page_colour(page.profile, gray=False).space
    colours = np.random.default_rng(5).random((1, 400, 3), np.float32) * np.float32(0.8) + 0.1
    shown = page_colour(bytes(theirs), gray=False).space.to_srgb(colours.astype(np.float32))
    np.testing.assert_allclose(ours.to_srgb(colours.astype(np.float32)), shown, atol=2e-3)


@FILES
def test_a_derivative_carries_the_profile_that_was_made_from_codes(make):
    made, notes = derivative(make((P3, SRGB_CURVE)))
    icc = Image.open(BytesIO(made.data)).info["icc_profile"]
    name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(BytesIO(icc)))
    assert name.strip() == "Display P3"
    assert any("made from the file's colour codes (Display P3)" in note for note in notes)


@FILES
@pytest.mark.parametrize("codes", [(BT709, SRGB_CURVE), (BT709, 1), (2, 2)])
def test_codes_that_say_srgb_need_no_profile(make, codes):
    photograph = read(make(codes))
    assert photograph.pages[0].profile is None
    assert not any("colour" in note for note in photograph.notes)


@FILES
def test_codes_that_are_not_known_are_said(make):
    photograph = read(make((7, 7)))
    assert photograph.pages[0].profile is None
    assert any("codes 7 and 7 aren't known" in note for note in photograph.notes)


@FILES
@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_a_high_dynamic_range_is_refused_before_and_while_decoding(make, transfer):
    data = make((BT2020, transfer))
    with pytest.raises(PhotoUnsupported, match="high dynamic range"):
        read(data)
    with pytest.raises(PhotoUnsupported, match="high dynamic range"):
        read_header(data, limits=LIMITS)


@FILES
def test_a_header_tells_of_the_profile_that_will_be_made(make):
    (header,) = read_header(make((P3, SRGB_CURVE)), limits=LIMITS).pages
    assert header.icc


def test_a_gray_picture_gets_a_gray_profile():
    (page,) = read(heic((P3, GAMMA), photo(1, np.uint16))).pages
    assert page.gray
    assert page.profile[16:20] == b"GRAY"
    assert page_colour(page.profile, gray=True).space is not None


def test_a_profile_of_the_file_itself_comes_before_its_codes():
    data = with_chunk(pillow(photo(), "PNG", icc_profile=SRGB), b"cICP", bytes((P3, 13, 0, 1)))
    assert read(data).pages[0].profile == SRGB


def test_png_keeps_its_codes_beside_the_profile():
    made, _ = derivative(png((P3, SRGB_CURVE)))
    assert made.data[made.data.index(b"cICP") + 4 :][:4] == bytes((P3, 13, 0, 1))


def test_a_gamma_that_the_network_does_not_see_is_said():
    linear = with_chunk(pillow(photo(), "PNG"), b"gAMA", struct.pack(">I", 100_000))
    assert any("the gamma of 1 was kept" in note for note in read(linear).notes)
    usual = with_chunk(pillow(photo(), "PNG"), b"gAMA", struct.pack(">I", 45_455))
    assert read(usual).notes == ()


def bmp(kind, profile):
    """A file with the longest header there is, and a profile behind its picture."""
    samples = np.ascontiguousarray(photo()[::-1, :, ::-1])
    height, width = samples.shape[:2]
    picture, length = samples.tobytes(), 124
    header = struct.pack("<IiiHHIIiiII", length, width, height, 1, 24, 0, len(picture), *[0] * 4)
    header += bytes(16) + kind + bytes(48)
    header += struct.pack("<IIII", 4, length + len(picture), len(profile), 0)
    size = 14 + len(header) + len(picture) + len(profile)
    start = b"BM" + struct.pack("<IHHI", size, 0, 0, 14 + len(header))
    return start + header + picture + profile


def test_the_profile_of_a_bmp_file_comes_back():
    made, _ = derivative(bmp(b"DEBM", SRGB))
    assert Image.open(BytesIO(made.data)).info["icc_profile"] == SRGB
    assert read_header(bmp(b"DEBM", SRGB), limits=LIMITS).pages[0].icc


def test_a_profile_that_a_bmp_file_only_names_is_said():
    photograph = read(bmp(b"KNIL", b"c:\\scan.icm\0"))
    assert photograph.pages[0].profile is None
    assert any("profile lies in another file" in note for note in photograph.notes)


def gif(*extensions, behind=False):
    data = pillow(photo(), "GIF")
    at = len(data) - 1 if behind else 13 + 3 * (2 << (data[10] & 7))
    return b"GIF89a" + data[6:at] + b"".join(extensions) + data[at:]


def gif_xmp(packet):
    return b"\x21\xff\x0bXMP DataXMP" + packet + b"\x01" + bytes(range(255, -1, -1)) + b"\0"


def gif_profile(profile):
    parts = [profile[at : at + 255] for at in range(0, len(profile), 255)]
    blocks = b"".join(bytes((len(part),)) + part for part in parts)
    return b"\x21\xff\x0bICCRGBG1012" + blocks + b"\0"


@pytest.mark.parametrize("behind", [False, True])
def test_xmp_and_profile_of_a_gif_file_come_back(behind):
    data = gif(gif_xmp(XMP), gif_profile(SRGB), behind=behind)
    (page,) = read(data).pages
    assert page.metadata.xmp == XMP
    made, _ = derivative(data)
    opened = Image.open(BytesIO(made.data))
    assert opened.info["icc_profile"] == SRGB
    assert XMP.decode() in opened.info["XML:com.adobe.xmp"]
    assert read_header(data, limits=LIMITS).pages[0].icc


def test_a_gif_file_that_ends_within_an_extension_is_read_as_far_as_it_goes():
    data = gif(behind=True)[:-1] + gif_profile(SRGB)[:400]
    (page,) = read(data).pages
    assert page.profile is None


def test_a_profile_that_a_gray_png_cannot_use_is_kept_and_said():
    gray, coloured = photo(1), photo()
    for master, said in [
        (pillow(gray, "JPEG", icc_profile=SRGB), True),
        (pillow(gray, "JPEG", icc_profile=GRAY), False),
        (pillow(coloured, "JPEG", icc_profile=SRGB), False),
    ]:
        made, notes = derivative(master, "png")
        assert b"iCCP" in made.data
        assert any("ICC profile for RGB was kept" in note for note in notes) is said


def jpeg_with(unit, across, down):
    data = bytearray(pillow(photo(), "JPEG"))
    at = data.index(b"JFIF\0") + 7
    data[at : at + 5] = struct.pack(">BHH", unit, across, down)
    return bytes(data)


def test_the_shape_of_a_jpegs_pixels_comes_back():
    made, _ = derivative(jpeg_with(0, 1, 2))
    assert made.data[made.data.index(b"pHYs") + 4 :][:9] == struct.pack(">IIB", 1, 2, 0)
    tiff, _ = derivative(jpeg_with(0, 1, 2), "tiff")
    tags = Image.open(BytesIO(tiff.data)).tag_v2
    assert (tags[282], tags[283], tags[296]) == (1, 2, 1)


def test_square_pixels_of_no_size_are_nothing_to_keep():
    made, _ = derivative(jpeg_with(0, 1, 1))
    assert b"pHYs" not in made.data


def test_a_jpeg_copy_says_that_it_lacks_the_shape_of_pixels():
    assert any("shape of the pixels" in note for note in derivative(jpeg_with(0, 1, 2), "jpeg")[1])
    assert derivative(jpeg_with(0, 1, 1), "jpeg")[1] == ()
