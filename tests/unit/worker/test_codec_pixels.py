"""Samples come back exactly, at their own depth, in their own number of channels."""

from io import BytesIO

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from jobs.errors import PhotoUnsupported
from tests.unit.worker.whole import encode
from worker.codec import Container, decode, output_suffix
from worker.codec.limits import Limits

MAX_PIXELS = 10_000
RANDOM = np.random.default_rng(5)
SHAPES = {"gray": (9, 7), "gray_alpha": (9, 7, 2), "rgb": (9, 7, 3), "rgb_alpha": (9, 7, 4)}


def samples(shape, dtype):
    return RANDOM.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def png(array):
    return bytes(imagecodecs.png_encode(array))


def tiff(array, **options):
    out = BytesIO()
    colour = array.ndim == 3 and array.shape[-1] >= 3
    options.setdefault("photometric", "rgb" if colour else "minisblack")
    if array.ndim == 3 and array.shape[-1] in (2, 4):
        options.setdefault("planarconfig", "contig")
        options.setdefault("extrasamples", ["unassalpha"])
    tifffile.imwrite(out, array, metadata=None, **options)
    return out.getvalue()


def pillow(array, kind, **options):
    out = BytesIO()
    Image.fromarray(array).save(out, kind, **options)
    return out.getvalue()


def read(data):
    return decode(data, limits=Limits(MAX_PIXELS))


def rewrite(data, output="same"):
    """Encode a file again with nothing restored."""
    photograph = read(data)
    pixels = [page.pixels for page in photograph.pages]
    return encode(photograph, pixels, output=output, jpeg_quality=95, software="test")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("output", ["same", "tiff", "png"])
@pytest.mark.parametrize("make", [png, tiff])
def test_every_sample_survives_a_lossless_way_there_and_back(make, output, shape, dtype):
    array = samples(shape, dtype)
    encoded = rewrite(make(array), output)
    if encoded.suffix == ".tif":
        found = tifffile.imread(BytesIO(encoded.data))
    else:
        found = imagecodecs.png_decode(encoded.data)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, array)


def test_a_gray_page_is_shown_to_the_engine_as_three_equal_channels():
    array = samples((9, 7), np.uint16)
    (page,) = read(png(array)).pages
    assert page.gray
    np.testing.assert_array_equal(page.pixels, np.dstack([array] * 3))


def test_colour_in_a_restored_gray_page_is_removed_and_said():
    array = samples((9, 7), np.uint8)
    photograph = read(png(array))
    restored = photograph.pages[0].pixels.copy()
    restored[2, 3] = (200, 100, 50)
    encoded = encode(photograph, [restored], output="same", jpeg_quality=95, software="test")
    expected = array.copy()
    expected[2, 3] = 124  # 0.299 * 200 + 0.587 * 100 + 0.114 * 50
    np.testing.assert_array_equal(imagecodecs.png_decode(encoded.data), expected)
    assert any("gray page" in note for note in encoded.notes)


def test_alpha_is_no_part_of_the_pixels_and_comes_back_beside_changed_ones():
    array = samples((9, 7, 4), np.uint16)
    photograph = read(tiff(array))
    changed = 65535 - photograph.pages[0].pixels
    encoded = encode(photograph, [changed], output="same", jpeg_quality=95, software="test")
    found = tifffile.imread(BytesIO(encoded.data))
    np.testing.assert_array_equal(found[:, :, 3], array[:, :, 3])
    np.testing.assert_array_equal(found[:, :, :3], changed)


@pytest.mark.parametrize("kind", ["associated", "unassociated", "unspecified"])
def test_the_kind_of_alpha_is_kept_in_tiff(kind):
    name = {"associated": "assocalpha", "unassociated": "unassalpha"}.get(kind, kind)
    encoded = rewrite(tiff(samples((9, 7, 4), np.uint8), extrasamples=[name]))
    with tifffile.TiffFile(BytesIO(encoded.data)) as file:
        assert [extra.name.lower() for extra in file.pages[0].extrasamples] == [name]


def test_associated_alpha_is_refused_for_png_before_anything_is_restored():
    photograph = read(tiff(samples((9, 7, 4), np.uint8), extrasamples=["assocalpha"]))
    with pytest.raises(PhotoUnsupported, match="associated alpha"):
        output_suffix(photograph, "png")


@pytest.mark.parametrize(
    ("kind", "container"),
    [
        ("BMP", Container.BMP),
        ("GIF", Container.GIF),
        ("WEBP", Container.WEBP),
        ("JPEG2000", Container.JP2),
        ("AVIF", Container.AVIF),
        ("JPEG", Container.JPEG),
    ],
)
def test_other_kinds_decode_as_pillow_does_and_become_png(kind, container):
    lossy = {"irreversible": True} if kind == "JPEG2000" else {}
    data = pillow(samples((16, 24, 3), np.uint8), kind, **lossy)
    photograph = read(data)
    with Image.open(BytesIO(data)) as image:
        expected = np.asarray(image.convert("RGB"))
    assert photograph.container is container
    np.testing.assert_array_equal(photograph.pages[0].pixels, expected)
    encoded = rewrite(data)
    assert (encoded.suffix, encoded.content_type) == (".png", "image/png")
    np.testing.assert_array_equal(imagecodecs.png_decode(encoded.data), expected)


def test_the_content_decides_the_kind():
    assert read(pillow(samples((9, 7), np.uint8), "GIF")).container is Container.GIF


@pytest.mark.parametrize("output", ["same", "png", "tiff", "jpeg"])
@pytest.mark.parametrize("make", [png, tiff])
def test_the_suffix_told_before_is_the_suffix_of_the_derivative(make, output):
    data = make(samples((9, 7, 3), np.uint8))
    assert output_suffix(read(data), output) == rewrite(data, output).suffix


def test_jpeg_output_rounds_16_bits_and_drops_alpha_and_says_so():
    array = samples((16, 16, 4), np.uint16)
    array[:, :, :3] = (65535, 32896, 0)
    encoded = rewrite(png(array), "jpeg")
    with Image.open(BytesIO(encoded.data)) as image:
        assert (image.format, image.mode) == ("JPEG", "RGB")
        assert np.abs(np.asarray(image).astype(int) - (255, 128, 0)).max() <= 4
    assert len(encoded.notes) == 2


def test_a_gray_master_becomes_a_gray_jpeg():
    with Image.open(BytesIO(rewrite(png(samples((9, 7, 2), np.uint8)), "jpeg").data)) as image:
        assert image.mode == "L"


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("PNG", "1"), ("PNG", "P"), ("TIFF", "P"), ("BMP", "1"), ("BMP", "P"), ("GIF", "P")],
)
def test_palettes_and_single_bits_become_whole_bytes_with_the_same_look(kind, mode):
    gradient = np.add.outer(np.arange(12), np.arange(16)).astype(np.uint8) * 9
    image = Image.fromarray(gradient).convert("RGB" if mode == "P" else mode)
    image = image.quantize(8) if mode == "P" else image
    out = BytesIO()
    image.save(out, kind)
    photograph = read(out.getvalue())
    np.testing.assert_array_equal(photograph.pages[0].pixels, np.asarray(image.convert("RGB")))
    assert photograph.notes


def test_arrays_of_another_shape_or_depth_are_refused():
    photograph = read(png(samples((9, 7, 3), np.uint16)))
    wrong = [samples((9, 7, 3), np.uint8)]
    with pytest.raises(ValueError, match="uint8"):
        encode(photograph, wrong, output="same", jpeg_quality=95, software="test")
    with pytest.raises(ValueError, match="2 restored pages"):
        encode(photograph, wrong * 2, output="same", jpeg_quality=95, software="test")
