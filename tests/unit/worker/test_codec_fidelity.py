"""What comes back is what went in, with one box changed: checked by readers other than ours.

docs/formats.md has the list of what must differ. `MASTERS` has a file of every kind.
"""

import io
from contextlib import suppress
from functools import cache

import imagecodecs
import numpy as np
import pillow_heif
import pytest
import tifffile
from PIL import Image

from jobs.errors import PhotoUnsupported
from tests.unit.worker.codec_masters import IPTC, MASTERS, RESOURCES, XMP, photo
from tests.unit.worker.readers import READERS, assert_same_outside, by_pillow
from tests.unit.worker.whole import encode, own_samples
from worker.codec import Photograph, decode, read_header, stores_alike
from worker.codec.formats import KINDS, format_of
from worker.codec.limits import Limits
from worker.codec.native import ColourModel
from worker.codec.photograph import Encoded

BOX = slice(8, 24), slice(12, 30)
MAX_PIXELS = 100_000_000

SUFFIXES = {"tiff": ".tif", "png": ".png", "webp lossless": ".webp", "jp2": ".jp2"}
OTHERS = {"jpeg cmyk": ".tif", "jp2 lossy": ".png", "jp2 lossy 12": ".png"}

LOSSY = {"tiff jpeg", "tiff jpeg 2000", "tiff cmyk jpeg"}
OFFSETS = {273, 279, 324, 325}
COMPRESSION, PREDICTOR, SOFTWARE, ORIENTATION, SUBSAMPLING = 259, 317, 305, 274, 530
#: Fields that a lossless copy of a lossy page can't keep: how it was compressed.
OF_LOSSY = {COMPRESSION, PREDICTOR, 262, 347, SUBSAMPLING, 532}
#: Pages whose samples a restored face doesn't fit into: their own test is below.
CONVERTED = {"tiff palette", "tiff palette of 16 bits", "tiff 4 bits"}
BILEVEL = {"tiff bilevel", "tiff group 4", "tiff group 3, 0 is white", "tiff pages"}
TURNED = {f"tiff orientation {told}" for told in range(5, 9)}


@cache
def master(name: str) -> bytes:
    return MASTERS[name]()


def change(pixels: np.ndarray) -> np.ndarray:
    """What the engine might have made of a page: a box of it is darker."""
    restored = pixels.copy()
    restored[BOX] = np.rint(restored[BOX] * 0.8)
    return restored


def derive(data: bytes, output: str = "same", **options) -> tuple[Photograph, Encoded]:
    photograph = decode(data, limits=Limits(MAX_PIXELS))
    restored = [change(page.pixels) for page in photograph.pages]
    options = {"jpeg_quality": 95, "software": "the pipeline", **options}
    return photograph, encode(photograph, restored, output=output, **options)


@cache
def derivative(name: str) -> Encoded:
    return derive(master(name))[1]


#: Pillow cuts 10 and 12 bits to 8 in its own way.
ROUNDED = {("pillow", "avif 10"): 1, ("pillow", "jp2 lossy 12"): 1, ("pillow", "heic 10"): 2}


#: 16-bit planes, JPEG 2000's own colours, and palettes of more than 8 bits.
MISREAD = {
    ("pillow", "tiff planes"),
    ("vips", "tiff jpeg 2000"),
    ("vips", "tiff palette of 16 bits"),
}


@pytest.mark.parametrize("name", MASTERS)
@pytest.mark.parametrize("reader", READERS)
def test_whoever_reads_the_master_finds_the_same_samples_outside_the_box(reader, name):
    if reader == "vips" and not name.startswith(("tiff", "png")):
        pytest.skip("another decoder of lossy files")
    if reader == "tifffile" and name in CONVERTED | (BILEVEL - {"tiff pages"}):
        pytest.skip("it shows numbers, not colours")
    if (reader, name) in MISREAD:
        pytest.skip("it takes the master for something else")
    before: list[np.ndarray] = []
    with suppress(Exception):  # whatever it can't read it doesn't have to
        before = READERS[reader](master(name))
    if not before:
        pytest.skip(f"{reader} can't read the master")
    after = READERS[reader](derivative(name).data)
    for page, (one, other) in enumerate(zip(before, after, strict=True)):
        if name == "tiff pages" and page == 2:  # bilevel, and restored
            continue
        assert_same_outside(BOX, one, other, ROUNDED.get((reader, name), 0))


@pytest.mark.parametrize("name", MASTERS)
def test_the_box_holds_what_was_restored(name):
    photograph, encoded = derive(master(name))
    back = decode(encoded.data, limits=Limits(MAX_PIXELS))
    for page, stored in zip(photograph.pages, back.pages, strict=True):
        restored = change(page.pixels)
        assert (stored.pixels[BOX] != page.pixels[BOX]).any()
        white = np.iinfo(restored.dtype).max
        # colours go through the inks' or Lab's own steps; 12 bits and small floats are coarser
        is_other = page.model in {ColourModel.CMYK, ColourModel.LAB}
        tolerance = 0.04 * white if is_other else 0 if page.native is None else white / 2000
        difference = np.abs(stored.pixels[BOX].astype(float) - restored[BOX])
        if page.model is not ColourModel.LAB or page.pixels.dtype == np.uint16:
            assert difference.max() <= tolerance + 1
        assert difference.mean() <= tolerance / 4 + 1
        if stores_alike(page, stored):
            np.testing.assert_array_equal(stored.own, own_samples(page, restored))
        else:
            np.testing.assert_array_equal(stored.pixels, restored)


def tags_of(data: bytes) -> list[dict[int, object]]:
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        return [{tag.code: tag.value for tag in page.tags} for page in file.pages]


def fits(name: str) -> bool:
    return name.startswith("tiff") and name not in CONVERTED | BILEVEL


@pytest.mark.parametrize("name", [name for name in MASTERS if fits(name)])
def test_every_field_of_a_tiff_comes_back_and_so_does_its_way_of_storing(name):
    (before,), (after,) = tags_of(master(name)), tags_of(derivative(name).data)
    may_differ = OFFSETS | (OF_LOSSY if name in LOSSY else set())
    if name in TURNED:
        before[256], before[257] = before[257], before[256]
        before[282], before[283] = before[283], before[282]
    if ORIENTATION in before:
        assert int(after[ORIENTATION]) == 1
        may_differ = may_differ | {ORIENTATION}
    for code in before.keys() - may_differ:
        np.testing.assert_equal(after.get(code), before[code], err_msg=str(code))
    made_up = after.keys() - before.keys() - may_differ
    assert made_up <= {SOFTWARE, 338, 278}
    assert derivative(name).data[:4] == master(name)[:4]  # byte order, and BigTIFF or not


def test_pages_keep_order_size_words_and_kind():
    before, after = tags_of(master("tiff pages")), tags_of(derivative("tiff pages").data)
    for page, (one, other) in enumerate(zip(before, after, strict=True)):
        bilevel = {258, 259, 262, 339} if page == 2 else set()
        for code in one.keys() - OFFSETS - bilevel:
            np.testing.assert_equal(other.get(code), one[code], err_msg=f"{page}: {code}")


@pytest.mark.parametrize("name", sorted(BILEVEL))
def test_a_bilevel_page_stays_one_as_long_as_nothing_was_restored(name):
    photograph = decode(master(name), limits=Limits(MAX_PIXELS))
    pixels = [page.pixels for page in photograph.pages]
    data = encode(photograph, pixels, output="same", jpeg_quality=95, software="test").data
    for one, other in zip(by_pillow(master(name)), by_pillow(data), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(tags_of(master(name)), tags_of(data), strict=True):
        for code in one.keys() - OFFSETS - {292, 278}:  # options of group 3, whole strips
            if one[code] is not None:
                found = other.get(code, {258: 1, 284: 1}.get(code))  # what an absent field means
                np.testing.assert_equal(found, one[code], err_msg=str(code))


@pytest.mark.parametrize("name", sorted(BILEVEL))
def test_a_bilevel_page_that_was_restored_becomes_gray_and_that_is_said(name):
    assert any("1-bit gray was stored as 8-bit gray" in note for note in derivative(name).notes)


@pytest.mark.parametrize("name", sorted(CONVERTED))
def test_palettes_and_few_bits_become_whole_samples_with_the_same_look_and_that_is_said(name):
    photograph, _ = derive(master(name))
    assert any("was stored as" in note or "were stored as" in note for note in photograph.notes)


@pytest.mark.parametrize("name", MASTERS)
def test_lossless_containers_are_kept_and_others_become_png_or_tiff(name):
    kept = [suffix for start, suffix in SUFFIXES.items() if name.startswith(start)]
    assert derivative(name).suffix == OTHERS.get(name, *kept or [".png"])


@pytest.mark.parametrize("name", MASTERS)
def test_a_header_tells_which_format_the_derivative_gets(name):
    header = read_header(master(name), limits=Limits(MAX_PIXELS))
    first = header.pages[0]
    kind = format_of(
        header.container,
        "same",
        pages=len(header.pages),
        alpha=first.alpha,
        longest_px=max(first.width, first.height),
        special=first.special,
        lossless=first.lossless,
    )
    assert KINDS[kind][0] == derivative(name).suffix


def facts_of(data: bytes) -> dict[str, object]:
    """What Pillow finds beside the samples; a TIFF file's fields are compared above."""
    if data[4:8] == b"ftyp" and data[8:12] == b"heic":
        file = pillow_heif.open_heif(io.BytesIO(data))
        block = Image.Exif()
        block.load(file.info["exif"])
        return {"exif": exif_of(block), "xmp": file.info["xmp"], "icc": None, "dpi": None}
    with Image.open(io.BytesIO(data)) as image:
        dpi = image.info.get("dpi")
        return {
            "icc": image.info.get("icc_profile"),
            "dpi": dpi and tuple(round(float(value), 1) for value in dpi),
            "xmp": image.info.get("xmp"),
            "exif": None if image.format == "TIFF" else exif_of(image.getexif()),
        }


def exif_of(block: Image.Exif) -> dict[int, object]:
    """Everything but the way to turn, and where the other directories lie."""
    fields = {**block, **block.get_ifd(0x8769), **block.get_ifd(0x8825)}
    return {code: value for code, value in fields.items() if code not in {ORIENTATION, 0x8769}}


@pytest.mark.parametrize("name", [name for name in MASTERS if not name.startswith("tiff lerc")])
def test_profile_resolution_exif_and_xmp_come_back(name):
    try:
        before = facts_of(master(name))
    except (OSError, SyntaxError, UserWarning):
        pytest.skip("Pillow can't read the master")
    after = facts_of(derivative(name).data)
    if name in TURNED:
        before["dpi"] = before["dpi"][::-1]
    if name.startswith("jp2"):  # whose boxes Pillow doesn't show
        assert XMP in derivative(name).data
        assert b"A. Nonymous" in derivative(name).data
        return
    for fact in ("icc", "dpi", "exif", "xmp"):
        assert (after[fact] or None) == (before[fact] or None), fact


@pytest.mark.parametrize("name", [name for name in MASTERS if IPTC in MASTERS[name]()])
def test_iptc_comes_back_where_the_container_has_a_place_for_it(name):
    encoded = derivative(name)
    if encoded.suffix == ".png":
        with Image.open(io.BytesIO(encoded.data)) as image:
            text = image.info["Raw profile type iptc"]
        assert IPTC.hex() in text.replace("\n", "")
    else:
        assert IPTC in encoded.data


def test_the_masters_software_stays_and_ours_is_named_where_it_names_none():
    assert tags_of(derivative("tiff rgb 8").data)[0][SOFTWARE] == "LinoColor 6"
    with Image.open(io.BytesIO(derivative("png gray 8").data)) as image:
        assert image.info["Software"] == "LinoColor 6"
    with Image.open(io.BytesIO(derivative("png gray 16").data)) as image:
        assert image.info["Software"] == "the pipeline"


def test_a_turn_is_said():
    photograph, _ = derive(master("tiff orientation 6"))
    assert any("upright" in note for note in photograph.notes)


def test_sizes_in_exif_turn_with_the_picture():
    block = Image.Exif()
    block[ORIENTATION], block[282], block[283], block[296] = 6, 300, 600, 2
    block.get_ifd(0x8769)[0xA002], block.get_ifd(0x8769)[0xA003] = 24, 16
    out = io.BytesIO()
    Image.new("RGB", (24, 16)).save(out, "JPEG", exif=block)
    _, encoded = derive(out.getvalue())
    with Image.open(io.BytesIO(encoded.data)) as image:
        found, camera = image.getexif(), image.getexif().get_ifd(0x8769)
        assert image.size == (16, 24)
        assert (camera[0xA002], camera[0xA003]) == (16, 24)
        assert (found[282], found[283]) == (600, 300)


def test_no_stale_thumbnail_stays_in_photoshops_resources_or_in_xmp():
    thumbnail = b"8BIM\x04\x0c\0\0\0\0\0\x05stale\0"
    start, end = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"', b"<a/></x:xmpmeta>"
    thumbnails = b"<xmp:Thumbnails>stale</xmp:Thumbnails>"
    packet = start + b' xmlns:xmp="http://ns.adobe.com/xap/1.0/">' + thumbnails + end
    out = io.BytesIO()
    Image.new("RGB", (24, 16)).save(out, "JPEG", xmp=packet)
    payload = b"Photoshop 3.0\0" + thumbnail + RESOURCES
    segment = b"\xff\xed" + (len(payload) + 2).to_bytes(2) + payload
    _, encoded = derive(out.getvalue()[:2] + segment + out.getvalue()[2:], "jpeg")
    assert b"stale" not in encoded.data
    assert IPTC in encoded.data
    assert end in encoded.data


def test_an_application_segment_that_is_not_kept_is_named():
    segment = b"\xff\xe2\0\x0aMPF\0more"
    data = master("jpeg rgb")
    photograph, _ = derive(data[:2] + segment + data[2:])
    assert any("APP2 'MPF'" in note for note in photograph.notes)


def cmyk_profile() -> bytes:
    pyvips = pytest.importorskip("pyvips")
    image = pyvips.Image.black(1, 1, bands=3).copy(interpretation="srgb")
    return image.icc_transform("cmyk").get("icc-profile-data")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_cmyk_is_shown_and_taken_back_by_its_own_profile(dtype):
    white = np.iinfo(dtype).max
    inks = np.broadcast_to([0.2, 0.4, 0.4, 0.1], (40, 56, 4)) * white  # skin
    out = io.BytesIO()
    profile = cmyk_profile()
    array = np.rint(inks).astype(dtype)
    tifffile.imwrite(out, array, photometric="separated", iccprofile=profile, metadata=None)
    photograph, encoded = derive(out.getvalue())
    (page,) = photograph.pages
    expected = imagecodecs.cms_transform(
        array[:1, :1],
        profile,
        imagecodecs.cms_profile("srgb"),
        colorspace="cmyk",
        outcolorspace="rgb",
        intent=1,
        flags=0x2000,
    )
    np.testing.assert_array_equal(page.pixels[0, 0], expected[0, 0])
    assert page.profile is None
    (back,) = decode(encoded.data, limits=Limits(MAX_PIXELS)).pages
    assert back.metadata.icc == profile
    difference = np.abs(back.pixels[BOX].astype(float) - change(page.pixels)[BOX]) / white
    assert difference.max() < 0.02


def test_a_little_change_moves_the_inks_by_little_so_that_no_edge_shows():
    """A conversion there and back would jump by many levels where the blend of a face begins."""
    out = io.BytesIO()
    options = {"photometric": "separated", "iccprofile": cmyk_profile(), "metadata": None}
    tifffile.imwrite(out, photo(4), **options)
    page = decode(out.getvalue(), limits=Limits(MAX_PIXELS)).pages[0]
    shown = page.pixels.reshape(-1, 3)
    back = page.native.conversion.take_back(shown).reshape(page.own.shape)
    assert np.abs(back - page.own).max() > 100
    restored = np.clip(page.pixels.astype(int) + 1, 0, 255).astype(np.uint8)
    moved = np.abs(own_samples(page, restored).astype(int) - page.own)
    assert moved.max() < 30
    assert moved.mean() < 6


def test_colours_without_a_profile_keep_the_black_ink():
    photograph = decode(master("tiff cmyk 8"), limits=Limits(MAX_PIXELS))
    page = photograph.pages[0]
    merged = own_samples(page, change(page.pixels))
    np.testing.assert_array_equal(merged[:, :, 3], page.own[:, :, 3])


@pytest.mark.parametrize("name", ["tiff cmyk 8", "tiff lab 8", "tiff float 32", "tiff pages"])
def test_what_png_cannot_hold_is_refused_for_png_and_said_for_jpeg(name):
    with pytest.raises(PhotoUnsupported, match="choose same or tiff"):
        derive(master(name), "png")
    if name != "tiff pages":
        _, encoded = derive(master(name), "jpeg")
        with Image.open(io.BytesIO(encoded.data)) as image:
            assert image.mode == ("CMYK" if "cmyk" in name else "RGB")


def test_a_float_page_with_a_known_range_is_shown_over_all_of_it():
    (page,) = decode(master("tiff float 64 with a range"), limits=Limits(MAX_PIXELS)).pages
    shown = np.rint(np.clip(page.own / 500.0, 0, 1) * 65535)
    np.testing.assert_array_equal(page.pixels[:, :, :1], shown)


def test_a_12_bit_jpeg_2000_looks_the_same_as_png():
    photograph, encoded = derive(master("jp2 gray 12"), "png")
    found = imagecodecs.png_decode(encoded.data)
    np.testing.assert_array_equal(found, change(photograph.pages[0].pixels)[:, :, 0])


def test_an_enlarged_page_of_any_kind_can_be_written():
    for name in ("tiff cmyk 8", "tiff lab 16", "tiff float 32", "tiff 12 in 16", "jp2 gray 12"):
        photograph = decode(master(name), limits=Limits(MAX_PIXELS))
        page = photograph.pages[0]
        larger = page.pixels.repeat(2, 0).repeat(2, 1)
        data = encode(photograph, [larger], output="same", jpeg_quality=95, software="t").data
        (back,) = decode(data, limits=Limits(MAX_PIXELS)).pages
        assert back.own.dtype == page.own.dtype
        span = np.iinfo(larger.dtype).max
        assert np.abs(back.pixels.astype(float) - larger).mean() < 0.03 * span
