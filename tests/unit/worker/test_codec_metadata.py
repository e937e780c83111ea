"""Orientation is applied once; profile, resolution, EXIF, XMP and comments come back, to scale."""

import struct
import zlib
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps, TiffImagePlugin
from PIL.PngImagePlugin import PngInfo

from jobs.errors import PhotoUnsupported
from tests.unit.worker.whole import encode
from worker.codec import decode, output_suffix
from worker.codec.limits import Limits

MAX_PIXELS = 10_000
OUTPUTS = {"png": "PNG", "tiff": "TIFF", "jpeg": "JPEG"}
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" rdf:about="" '
    b'tiff:Orientation="6" tiff:Artist="Anna"/></rdf:RDF></x:xmpmeta>'
)
ORIENTATION, ARTIST, EXPOSURE, MAKER_NOTE, GPS_LATITUDE = 274, 315, 0x9204, 0x927C, 2


def picture(height=16, width=24):
    return np.random.default_rng(3).integers(0, 255, (height, width, 3), dtype=np.uint8)


def exif(orientation=6):
    block = Image.Exif()
    block[ORIENTATION] = orientation
    block[ARTIST] = "A. Nonymous"
    block.get_ifd(0x8769)[EXPOSURE] = TiffImagePlugin.IFDRational(-2, 6)
    block.get_ifd(0x8769)[MAKER_NOTE] = bytes(range(40))
    block.get_ifd(0x8825)[GPS_LATITUDE] = (52.0, 31.0, 12.5)
    return block


def save(kind, **options):
    out = BytesIO()
    Image.fromarray(picture()).save(out, kind, **options)
    return out.getvalue()


def read(data):
    return decode(data, limits=Limits(MAX_PIXELS))


def rewrite(data, output):
    photograph = read(data)
    pixels = [page.pixels for page in photograph.pages]
    return encode(photograph, pixels, output=output, jpeg_quality=95, software="the pipeline")


def reopen(data):
    image = Image.open(BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_pixels_are_upright_whatever_the_orientation(kind, orientation):
    options = {"lossless": True} if kind == "WEBP" else {}
    data = save(kind, exif=exif(orientation), **options)
    expected = np.asarray(ImageOps.exif_transpose(reopen(data)))
    np.testing.assert_array_equal(read(data).pages[0].pixels, expected)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_the_derivative_is_upright_for_every_reader(kind, output):
    data = save(kind, exif=exif(6))
    encoded = reopen(rewrite(data, output).data)
    assert encoded.size == (16, 24)
    assert ImageOps.exif_transpose(encoded).size == (16, 24)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_fields_come_back(kind, output):
    if kind == "TIFF":  # Pillow writes no camera fields into TIFF
        data = rewrite(save("JPEG", exif=exif()), "tiff").data
    else:
        data = save(kind, exif=exif())
    found = reopen(rewrite(data, output).data).getexif()
    camera, place = found.get_ifd(0x8769), found.get_ifd(0x8825)
    assert found[ARTIST] == "A. Nonymous"
    assert found.get(ORIENTATION, 1) == 1
    assert camera[EXPOSURE] == pytest.approx(-2 / 6)
    assert camera[MAKER_NOTE] == bytes(range(40))
    assert [float(value) for value in place[GPS_LATITUDE]] == [52.0, 31.0, 12.5]


def test_an_exif_block_differs_from_the_masters_only_in_its_orientation():
    block = exif(6).tobytes().removeprefix(b"Exif\0\0")
    (page,) = read(save("JPEG", exif=exif(6))).pages
    pairs = zip(block, page.metadata.exif, strict=True)
    assert [pair for pair in pairs if pair[0] != pair[1]] == [(6, 1)]


def with_thumbnail(thumbnail, *, tail=b""):
    """A little-endian block with an orientation and, in a second directory, a thumbnail."""
    first = struct.pack("<HHHIII", 1, ORIENTATION, 3, 1, 6, 26)
    at = 26 + 2 + 2 * 12 + 4
    second = struct.pack("<HHHII", 2, 513, 4, 1, at)
    second += struct.pack("<HHIII", 514, 4, 1, len(thumbnail), 0)
    return b"II*\0\x08\0\0\0" + first + second + thumbnail + tail


@pytest.mark.parametrize("tail", [b"", b"tail"])
def test_a_stale_thumbnail_is_gone(tail):
    thumbnail = b"\xff\xd8 an older picture \xff\xd9"
    block = with_thumbnail(thumbnail, tail=tail)
    (page,) = read(save("JPEG", exif=b"Exif\0\0" + block)).pages
    assert page.pixels.shape[:2] == (24, 16)
    assert thumbnail not in page.metadata.exif
    assert page.metadata.exif.endswith(tail)
    assert struct.unpack_from("<I", page.metadata.exif, 22) == (0,)


def test_readable_fields_of_a_damaged_exif_block_are_kept_and_the_damage_is_said():
    block = bytearray(with_thumbnail(b"x"))
    block[8:26] = struct.pack("<HHHIII", 1, ARTIST, 2, 9000, 500, 0)
    photograph = read(save("JPEG", exif=b"Exif\0\0" + bytes(block)))
    assert any("EXIF" in note for note in photograph.notes)


@pytest.mark.parametrize(
    "block", [b"", b"II*\0", b"rubbish that is long enough", b"II*\0\xff\0\0\0"]
)
def test_an_unreadable_exif_block_is_left_out_and_that_is_said(block):
    photograph = read(save("JPEG", exif=b"Exif\0\0" + block))
    assert photograph.pages[0].metadata.exif is None
    assert any("EXIF" in note for note in photograph.notes)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_the_profile_comes_back_byte_for_byte(kind, output):
    encoded = rewrite(save(kind, icc_profile=PROFILE), output)
    assert reopen(encoded.data).info["icc_profile"] == PROFILE


def test_a_profile_that_is_none_is_left_out_and_that_is_said():
    photograph = read(save("JPEG", icc_profile=b"no profile" * 20))
    assert photograph.pages[0].metadata.icc is None
    assert any("ICC" in note for note in photograph.notes)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_xmp_comes_back_upright(kind, output):
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    options = {"PNG": {"pnginfo": text}, "TIFF": {"tiffinfo": {700: XMP}}}.get(kind, {"xmp": XMP})
    found = reopen(rewrite(save(kind, **options), output).data).info["xmp"]
    assert found == XMP.replace(b'Orientation="6"', b'Orientation="1"')


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP"])
def test_the_resolution_comes_back(kind, output):
    found = reopen(rewrite(save(kind, dpi=(300, 600)), output).data).info["dpi"]
    assert [round(float(value)) for value in found] == [300, 600]


def test_a_quarter_turn_swaps_a_resolution_that_differs():
    data = save("TIFF", dpi=(300, 600), exif=exif(6))
    assert [float(value) for value in reopen(rewrite(data, "same").data).info["dpi"]] == [600, 300]


def test_a_resolution_per_centimetre_stays_exact_in_png():
    data = save("PNG", dpi=(299.9994, 299.9994))
    for _ in range(3):
        data = rewrite(data, "png").data
    assert data[data.index(b"pHYs") + 4 :][:9] == struct.pack(">IIB", 11811, 11811, 1)


def test_png_text_and_colour_chunks_come_back():
    text = PngInfo()
    text.add_text("Title", "A wedding")
    text.add_text("Long", "words " * 99, zip=True)
    text.add(b"gAMA", struct.pack(">I", 45455))
    text.add(b"cHRM", struct.pack(">8I", *range(30000, 30008)))
    found = reopen(rewrite(save("PNG", pnginfo=text), "png").data)
    assert found.text["Title"] == "A wedding"
    assert found.text["Long"] == "words " * 99
    assert found.info["gamma"] == pytest.approx(0.45455)
    assert found.info["chromaticity"][0] == pytest.approx(0.3)
    assert found.text["Software"] == "the pipeline"


def test_a_damaged_text_chunk_costs_only_itself():
    text = PngInfo()
    text.add_text("Title", "A wedding")
    data = save("PNG", pnginfo=text).replace(b"A wedding", b"A welding")
    photograph = read(data)
    assert photograph.pages[0].metadata.chunks == ()
    assert any("tEXt" in note for note in photograph.notes)


def test_a_profile_that_would_inflate_without_end_is_left_out():
    data = save("PNG", icc_profile=PROFILE)
    at = data.index(b"iCCP") - 4
    length = int.from_bytes(data[at : at + 4])
    body = b"iCCPbomb\0\0" + zlib.compress(bytes(70 * 2**20))
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    photograph = read(data[:at] + chunk + data[at + 12 + length :])
    assert photograph.pages[0].metadata.icc is None
    assert any("ICC" in note for note in photograph.notes)


def test_a_comment_comes_back_in_png_and_jpeg():
    data = save("JPEG", comment=b"found in the attic")
    assert reopen(rewrite(data, "png").data).text["Comment"] == "found in the attic"
    assert b"found in the attic" in rewrite(data, "jpeg").data


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
@pytest.mark.parametrize("kind", ["JPEG", "GIF"])
def test_a_comment_is_read_in_the_letters_that_it_is_written_in(kind, encoding):
    data = save(kind, comment="Müller, Zürich 1911".encode(encoding))
    assert reopen(rewrite(data, "png").data).text["Comment"] == "Müller, Zürich 1911"


def test_the_iptc_block_of_a_jpeg_comes_back():
    block = b"8BIM\x04\x04\0\0\0\0\0\x08\x1c\x02\x50\0\x03Bob"
    payload = b"Photoshop 3.0\0" + block
    segment = b"\xff\xed" + struct.pack(">H", len(payload) + 2) + payload
    data = save("JPEG")
    data = data[:2] + segment + data[2:]
    assert segment in rewrite(data, "jpeg").data
    with tifffile.TiffFile(BytesIO(rewrite(data, "tiff").data)) as file:
        assert file.pages[0].tags[34377].value == block
    as_png = rewrite(data, "png").data
    text = reopen(as_png).text["Raw profile type iptc"]
    assert block.hex() in text.replace("\n", "")
    assert block in rewrite(as_png, "jpeg").data


def test_metadata_too_long_for_jpeg_is_left_out_and_that_is_said():
    photograph = read(save("PNG"))
    page = photograph.pages[0]
    long = replace(page, metadata=replace(page.metadata, xmp=bytes(70_000)))
    encoded = encode(
        replace(photograph, pages=(long,)),
        [page.pixels],
        output="jpeg",
        jpeg_quality=95,
        software="test",
    )
    assert any("too long" in note for note in encoded.notes)


@pytest.mark.parametrize("output", OUTPUTS)
def test_the_derivative_names_its_maker(output):
    assert b"the pipeline" in rewrite(save("PNG"), output).data


def enlarged(data, output, scale=2):
    photograph = read(data)
    pixels = [page.pixels.repeat(scale, 0).repeat(scale, 1) for page in photograph.pages]
    return encode(photograph, pixels, output=output, jpeg_quality=95, software="test")


def test_a_larger_derivative_has_that_many_pixels():
    for output in OUTPUTS:
        assert reopen(enlarged(save("PNG"), output, 4).data).size == (24 * 4, 16 * 4)


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP"])
def test_a_print_of_a_larger_derivative_has_the_masters_size(kind, output, scale):
    found = reopen(enlarged(save(kind, dpi=(300, 600)), output, scale).data).info["dpi"]
    assert [round(float(value)) for value in found] == [300 * scale, 600 * scale]


@pytest.mark.parametrize("output", OUTPUTS)
def test_no_resolution_is_made_up_for_a_larger_derivative(output):
    data = enlarged(save("PNG"), output).data
    assert reopen(data).info.get("dpi", (1, 1)) == (1, 1)


def test_a_shape_of_pixels_without_a_unit_stays_as_it_is():
    chunk = b"pHYs" + struct.pack(">IIB", 3, 2, 0)
    data = save("PNG")
    at = 8 + 25
    chunk = struct.pack(">I", 9) + chunk + struct.pack(">I", zlib.crc32(chunk))
    larger = enlarged(data[:at] + chunk + data[at:], "png").data
    assert larger[larger.index(b"pHYs") + 4 :][:9] == struct.pack(">IIB", 3, 2, 0)


PIXELS_X, PIXELS_Y, FOCAL_PLANE_X = 0xA002, 0xA003, 0xA20E


def sized_exif(orientation=1):
    block = exif(orientation)
    block[256], block[257] = 24, 16
    block[282], block[283], block[296] = 300, 600, 2
    camera = block.get_ifd(0x8769)
    camera[PIXELS_X], camera[PIXELS_Y] = 24, 16
    camera[FOCAL_PLANE_X] = TiffImagePlugin.IFDRational(2500, 3)
    return block


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_of_a_larger_derivative_tells_its_size(kind, output):
    found = reopen(enlarged(save(kind, exif=sized_exif()), output).data).getexif()
    camera = found.get_ifd(0x8769)
    assert (camera[PIXELS_X], camera[PIXELS_Y]) == (48, 32)
    assert (found[256], found[257]) == (48, 32)
    assert (found[282], found[283]) == (600, 1200)
    assert camera[FOCAL_PLANE_X] == pytest.approx(5000 / 3)


def test_exif_of_a_larger_derivative_that_was_turned_tells_its_size():
    found = reopen(enlarged(save("JPEG", exif=sized_exif(6)), "jpeg").data).getexif()
    camera = found.get_ifd(0x8769)
    assert (camera[PIXELS_X], camera[PIXELS_Y]) == (32, 48)


def test_exif_of_a_larger_derivative_differs_only_where_it_tells_a_size():
    (before,) = read(save("JPEG", exif=sized_exif())).pages
    (after,) = read(enlarged(save("JPEG", exif=sized_exif()), "jpeg").data).pages
    old, new = before.metadata.exif, after.metadata.exif
    assert len(old) == len(new)
    # Numbers of 4 bytes, or a type and its number: 6 counts and 3 resolutions have changed.
    assert 7 <= sum(one != other for one, other in zip(old, new, strict=True)) <= 24
    assert bytes(range(40)) in new


def test_a_count_that_outgrows_16_bits_is_stored_in_32():
    image = Image.new("L", (17_000, 1))
    block = exif(1)
    block.get_ifd(0x8769)[PIXELS_X] = 17_000
    out = BytesIO()
    image.save(out, "PNG", exif=block)
    photograph = decode(out.getvalue(), limits=Limits(20_000))
    pixels = [photograph.pages[0].pixels.repeat(4, 0).repeat(4, 1)]
    data = encode(photograph, pixels, output="png", jpeg_quality=95, software="test").data
    assert reopen(data).getexif().get_ifd(0x8769)[PIXELS_X] == 68_000


def test_a_resolution_that_outgrows_its_field_is_the_largest_it_holds():
    block = struct.pack("<2sHIH", b"II", 42, 8, 1) + struct.pack("<HHIII", 282, 5, 1, 26, 0)
    block += struct.pack("<II", 2**32 - 2, 1)
    (page,) = read(save("JPEG", exif=b"Exif\0\0" + block)).pages
    assert struct.pack("<II", 2**32 - 2, 1) in page.metadata.exif
    data = enlarged(save("JPEG", exif=b"Exif\0\0" + block), "jpeg").data
    assert struct.pack("<II", 2**32 - 1, 1) in data


@pytest.mark.parametrize("output", OUTPUTS)
def test_xmp_of_a_larger_derivative_tells_its_size(output):
    packet = XMP.replace(
        b'tiff:Orientation="6" tiff:Artist="Anna"/>',
        b'xmlns:e="http://ns.adobe.com/exif/1.0/" tiff:XResolution="3000000/10000" '
        b"e:PixelXDimension = '24' e:PixelYDimension='16'><tiff:ImageWidth>24</tiff:ImageWidth>"
        b"<tiff:YResolution>72</tiff:YResolution></rdf:Description>",
    )
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", packet.decode())
    found = reopen(enlarged(save("PNG", pnginfo=text), output).data).info["xmp"]
    assert b'tiff:XResolution="600/1" e:PixelXDimension="48" e:PixelYDimension="32"' in found
    assert b"<tiff:ImageWidth>48</tiff:ImageWidth>" in found
    assert b"<tiff:YResolution>144/1</tiff:YResolution>" in found


def test_pages_of_a_tiff_keep_their_own_print_sizes():
    out = BytesIO()
    pages = [Image.fromarray(picture()), Image.fromarray(picture(8, 8))]
    pages[0].save(out, "TIFF", save_all=True, append_images=pages[1:], dpi=(300, 300))
    with tifffile.TiffFile(BytesIO(enlarged(out.getvalue(), "same", 4).data)) as file:
        found = [page.tags["XResolution"].value for page in file.pages]
        assert [page.shape for page in file.pages] == [(64, 96, 3), (32, 32, 3)]
    assert [numerator / denominator for numerator, denominator in found] == [1200, 1200]


def test_transparency_grows_with_its_picture():
    array = np.dstack([picture(), np.linspace(0, 255, 16 * 24).reshape(16, 24).astype(np.uint8)])
    out = BytesIO()
    Image.fromarray(array).save(out, "PNG")
    larger = np.asarray(reopen(enlarged(out.getvalue(), "png", 2).data))
    assert larger.shape == (32, 48, 4)
    means = larger[:, :, 3].reshape(16, 2, 24, 2).mean(axis=(1, 3))
    assert np.abs(means - array[:, :, 3]).max() < 8


def test_a_picture_that_grows_beyond_jpegs_limit_is_refused_before_it_is_restored():
    out = BytesIO()
    Image.new("L", (20_000, 1)).save(out, "PNG")
    photograph = decode(out.getvalue(), limits=Limits(20_000))
    assert output_suffix(photograph, "jpeg", scale=2) == ".jpg"
    with pytest.raises(PhotoUnsupported, match="65500"):
        output_suffix(photograph, "jpeg", scale=4)
