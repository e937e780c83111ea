"""TIFF in all the ways that it can be stored, and several pages of it."""

from io import BytesIO

import numpy as np
import pytest
import tifffile
from PIL import Image

from jobs.errors import PhotoCorrupt, PhotoUnsupported
from tests.unit.worker.whole import encode
from worker.codec import decode, output_suffix
from worker.codec.ifd import follow, read_header, unpack
from worker.codec.limits import Limits

RANDOM = np.random.default_rng(11)
MAX_PIXELS = 100_000


def samples(shape=(40, 56, 3), dtype=np.uint16):
    return RANDOM.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def tiff(*pages, **options):
    out = BytesIO()
    file_options = {name: options.pop(name) for name in ("bigtiff", "byteorder") if name in options}
    options.setdefault("photometric", "rgb" if pages[0].ndim == 3 else "minisblack")
    with tifffile.TiffWriter(out, **file_options) as file:
        for page in pages:
            file.write(page, **{"metadata": None, "contiguous": False, **options})
    return out.getvalue()


def read(data):
    return decode(data, limits=Limits(MAX_PIXELS))


def rewrite(data):
    photograph = read(data)
    pixels = [page.pixels for page in photograph.pages]
    return encode(photograph, pixels, output="same", jpeg_quality=95, software="test").data


def reopen(data):
    return tifffile.TiffFile(BytesIO(data))


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "none"},
        {"compression": "lzw", "predictor": 2},
        {"compression": "zlib", "predictor": 2},
        {"compression": "deflate"},
        {"compression": "packbits"},
        {"compression": "zlib", "tile": (16, 32)},
        {"byteorder": ">", "compression": "zlib", "predictor": 2},
        {"byteorder": ">", "bigtiff": True},
        {"bigtiff": True, "compression": "lzw", "tile": (32, 32)},
    ],
    ids=str,
)
def test_the_way_of_storing_is_kept(options):
    array = samples()
    data = tiff(array, **options)
    with reopen(data) as before, reopen(rewrite(data)) as after:
        for file in (before, after):
            np.testing.assert_array_equal(file.pages[0].asarray(), array)
        assert (after.byteorder, after.is_bigtiff) == (before.byteorder, before.is_bigtiff)
        kept = [
            (page.predictor, page.is_tiled, page.tilelength, page.tilewidth, page.compression)
            for page in (before.pages[0], after.pages[0])
        ]
    deflate = tifffile.COMPRESSION.DEFLATE, tifffile.COMPRESSION.ADOBE_DEFLATE
    assert kept[0][:4] == kept[1][:4]
    assert kept[0][4] == kept[1][4] or {kept[0][4], kept[1][4]} == set(deflate)


def test_separate_planes_are_read_as_pixels():
    array = samples((3, 40, 56))
    (page,) = read(tiff(array, planarconfig="separate")).pages
    np.testing.assert_array_equal(page.pixels, np.moveaxis(array, 0, 2))


def test_where_0_is_white_the_engine_sees_values_inverted_and_the_file_keeps_them():
    array = samples((40, 56))
    data = tiff(array, photometric="miniswhite")
    np.testing.assert_array_equal(read(data).pages[0].pixels[:, :, 0], 65535 - array)
    with reopen(rewrite(data)) as file:
        assert file.pages[0].photometric == tifffile.PHOTOMETRIC.MINISWHITE
        np.testing.assert_array_equal(file.pages[0].asarray(), array)


@pytest.mark.parametrize("output", ["png", "jpeg"])
def test_where_0_is_white_other_formats_show_the_same_picture_and_that_is_said(output):
    array = np.linspace(0, 255, 40 * 56).reshape(40, 56).astype(np.uint8)
    photograph = read(tiff(array, photometric="miniswhite"))
    pixels = [photograph.pages[0].pixels]
    encoded = encode(photograph, pixels, output=output, jpeg_quality=95, software="test")
    with Image.open(BytesIO(encoded.data)) as image:
        assert np.abs(np.asarray(image).astype(int) - (255 - array)).max() <= 3
    assert any("0 is white" in note for note in encoded.notes)


def test_12_bits_in_16_keep_their_values():
    array = samples((40, 56)) >> 4
    with reopen(rewrite(tiff(array))) as file:
        np.testing.assert_array_equal(file.pages[0].asarray(), array)


def test_a_lossy_page_is_stored_without_loss_and_that_is_said():
    data = tiff(samples(dtype=np.uint8), compression="jpeg")
    photograph = read(data)
    pixels = [photograph.pages[0].pixels]
    encoded = encode(photograph, pixels, output="same", jpeg_quality=95, software="test")
    with reopen(encoded.data) as file:
        np.testing.assert_array_equal(file.pages[0].asarray(), pixels[0])
    assert any("deflate" in note for note in encoded.notes)


def test_all_pages_come_back_in_order_with_what_belongs_to_each():
    arrays = [samples((40, 56), np.uint8), samples((30, 20, 3)), samples((8, 9, 3), np.uint8)]
    out = BytesIO()
    with tifffile.TiffWriter(out) as file:
        for number, array in enumerate(arrays, 1):
            file.write(
                array,
                photometric="rgb" if array.ndim == 3 else "minisblack",
                metadata=None,
                description=f"leaf {number}",
                resolution=(100 * number, 200 * number),
                resolutionunit="inch",
                software="LinoColor 6" if number == 1 else False,
            )
    with reopen(rewrite(out.getvalue())) as file:
        assert len(file.pages) == 3
        for number, (page, array) in enumerate(zip(file.pages, arrays, strict=True), 1):
            np.testing.assert_array_equal(page.asarray(), array)
            assert page.description == f"leaf {number}"
            assert page.resolution == (100 * number, 200 * number)
            assert page.software == ("LinoColor 6" if number == 1 else "test")


def test_several_pages_are_refused_for_png_and_jpeg_before_anything_is_restored():
    photograph = read(tiff(samples(), samples()))
    for output in ("png", "jpeg"):
        with pytest.raises(PhotoUnsupported, match="2 pages"):
            output_suffix(photograph, output)


def test_reduced_copies_are_left_out_and_that_is_said():
    out = BytesIO()
    with tifffile.TiffWriter(out) as file:
        file.write(samples(), photometric="rgb", metadata=None)
        file.write(samples((4, 5, 3)), photometric="rgb", metadata=None, subfiletype=1)
    photograph = read(out.getvalue())
    assert [page.pixels.shape for page in photograph.pages] == [(40, 56, 3)]
    assert any("reduced copy" in note for note in photograph.notes)


def test_private_and_descriptive_fields_come_back_with_their_types():
    fields = [
        (269, 2, 7, "Album 7", True),
        (315, 2, 5, "Anna", True),
        (65000, 10, 2, (-1, 3, 5, 7), True),
        (65001, 12, 1, 0.1, True),
    ]
    with reopen(rewrite(tiff(samples(), extratags=fields))) as file:
        tags = file.pages[0].tags
        for code, kind, _, value, _ in fields:
            assert tags[code].dtype == kind
            assert tags[code].value == value


def test_fields_are_written_in_ascending_order_as_the_specification_demands():
    data = rewrite(tiff(samples(), extratags=[(315, 2, 5, "Anna", True), (65000, 3, 1, 7, True)]))
    layout, link_at = read_header(data)
    codes = list(unpack(data, follow(data, link_at, layout), layout).fields)
    assert codes == sorted(codes)


def test_a_description_before_the_note_of_the_arrays_shape_comes_back():
    data = tiff(samples(), metadata={}, description="the harvest of 1911")
    with reopen(rewrite(data)) as file:
        assert file.pages[0].description == "the harvest of 1911"


def test_notes_of_the_arrays_shape_do_not_outlive_a_turn():
    data = tiff(samples(), metadata={}, extratags=[(274, 3, 1, 6, True)])
    with reopen(data) as before, reopen(rewrite(data)) as after:
        assert before.pages[0].description == '{"shape": [40, 56, 3]}'
        assert after.pages[0].shape == (56, 40, 3)
        assert after.pages[0].description == ""


def test_a_missing_tile_is_corrupt_and_not_black():
    data = bytearray(tiff(samples(), tile=(16, 16), compression="zlib"))
    with reopen(bytes(data)) as file:
        tag = file.pages[0].tags["TileByteCounts"]
    data[tag.valueoffset : tag.valueoffset + 4] = bytes(4)
    with pytest.raises(PhotoCorrupt, match="missing"):
        read(bytes(data))


def test_an_unreadable_field_that_decides_samples_is_corrupt_and_not_guessed():
    data = bytearray(tiff(samples((40, 56))))
    with reopen(bytes(data)) as file:
        tag = file.pages[0].tags["PhotometricInterpretation"]
    data[tag.offset + 2 : tag.offset + 4] = b"\x63\0"  # no such type
    with pytest.raises(PhotoCorrupt, match="262"):
        read(bytes(data))


def test_directories_in_a_circle_are_corrupt():
    data = bytearray(tiff(samples(), samples()))
    with reopen(bytes(data)) as file:
        first, second = (page.offset for page in file.pages)
    count = int.from_bytes(data[second : second + 2], "little")
    link_at = second + 2 + 12 * count
    data[link_at : link_at + 4] = first.to_bytes(4, "little")
    with pytest.raises(PhotoCorrupt, match="circle"):
        read(bytes(data))


def test_a_range_told_in_an_unusual_type_of_number_comes_back_with_its_samples():
    array = np.linspace(0, 500, 40 * 56).reshape(40, 56)
    data = tiff(array, bigtiff=True, extratags=[(340, 16, 1, 0, True), (341, 16, 1, 500, True)])
    with reopen(rewrite(data)) as file:
        np.testing.assert_array_equal(file.pages[0].asarray(), array)
        assert file.pages[0].tags.valueof(341) == 500
