"""What a header tells is what decoding gives, and what it refuses, decoding refuses too."""

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from jobs.errors import JobError, Permanent, SourceMissing, StoreUnavailable
from jobs.recipe import Recipe
from jobs.schema import Candidate
from jobs.testing import MemoryStore
from worker.codec import Container, decode, read_header
from worker.codec.limits import Limits
from worker.survey.headers import read_headers
from worker.survey.lazy import LazyBytes

CORPUS = Path(__file__).parents[4] / "shared" / "corpus"
MAX_PIXELS = 100_000_000
SIDE = (40, 56)
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def picture(channels=3, dtype=np.uint8):
    shape = SIDE if channels == 1 else (*SIDE, channels)
    return np.random.default_rng(7).integers(0, np.iinfo(dtype).max, shape, dtype=dtype)


def pillow(kind, image=None, **options):
    out = BytesIO()
    (image or Image.fromarray(picture())).save(out, kind, **options)
    return out.getvalue()


def tiff(array=None, **options):
    out = BytesIO()
    array = picture() if array is None else array
    tifffile.imwrite(out, array, photometric=options.pop("photometric", "rgb"), **options)
    return out.getvalue()


def exif(orientation=6):
    block = Image.Exif()
    block[274], block[282], block[283], block[296] = orientation, 300.0, 300.0, 2
    return block


def pages():
    out = BytesIO()
    with tifffile.TiffWriter(out) as file:
        file.write(picture(), photometric="rgb", compression="zlib")
        file.write(picture(1, np.uint16), photometric="minisblack", resolution=(600, 600))
        file.write(picture()[::2, ::2], photometric="rgb", subfiletype=1)
    return out.getvalue()


PALETTE = Image.fromarray(picture()).quantize(16)
FILES = {
    "jpeg": pillow("JPEG", exif=exif(), icc_profile=ICC),
    "jpeg_gray": pillow("JPEG", Image.fromarray(picture(1)), dpi=(72, 72)),
    "progressive": pillow("JPEG", progressive=True),
    "png": pillow("PNG", dpi=(300, 300), icc_profile=ICC, exif=exif(8)),
    "png_gray_alpha": pillow("PNG", Image.fromarray(picture(2), "LA")),
    "png_alpha": pillow("PNG", Image.fromarray(picture(4))),
    "png_16": pillow("PNG", Image.fromarray(picture(1, np.uint16))),
    "png_palette": pillow("PNG", PALETTE),
    "png_palette_clear": pillow("PNG", PALETTE, transparency=3),
    "png_gray_clear": pillow("PNG", Image.fromarray(picture(1)), transparency=3),
    "png_1": pillow("PNG", Image.fromarray(picture(1)).convert("1")),
    "webp": pillow("WEBP", lossless=True, exif=exif(), icc_profile=ICC),
    "webp_alpha": pillow("WEBP", Image.fromarray(picture(4))),
    "bmp": pillow("BMP"),
    "bmp_palette": pillow("BMP", PALETTE),
    "gif": pillow("GIF"),
    "jp2": pillow("JPEG2000"),
    "j2k": pillow("JPEG2000", no_jp2=True),
    "avif": pillow("AVIF", exif=exif()),
    "tiff": tiff(iccprofile=ICC, resolution=(1200, 1200)),
    "tiff_16_gray": tiff(picture(1, np.uint16), photometric="minisblack", compression="lzw"),
    "tiff_white": tiff(picture(1), photometric="miniswhite", compression="packbits"),
    "tiff_alpha": tiff(picture(4, np.uint16), extrasamples=["unassalpha"], tile=(32, 32)),
    "tiff_planar": tiff(np.moveaxis(picture(), 2, 0), planarconfig="separate"),
    "tiff_1": tiff(picture(1) > 99, photometric="minisblack", compression="packbits"),
    "tiff_jpeg": tiff(compression="jpeg"),
    "tiff_cmyk": tiff(picture(4), photometric="separated", compression="lzw"),
    "tiff_float": tiff(picture() / np.float32(255), compression="zlib"),
    "jpeg_cmyk": pillow("JPEG", Image.fromarray(picture(4), "CMYK")),
    "tiff_turned": tiff(extratags=[(274, 3, 1, 6, True)]),
    "tiff_pages": pages(),
    "bigtiff": tiff(bigtiff=True, byteorder=">"),
}


def header_of(data):
    stored = LazyBytes(lambda start, size: data[start : start + size], len(data))
    return read_header(stored, limits=Limits(MAX_PIXELS))


def outcome(action):
    """Return what an action gives, or the code of the photo error it raises."""
    try:
        return action()
    except Permanent as error:
        return error.code


def check_same(header, photograph):
    """Compare what a header tells with what was decoded."""
    assert header.container is photograph.container
    assert len(header.pages) == len(photograph.pages)
    for told, page in zip(header.pages, photograph.pages, strict=True):
        size = page.pixels.shape[:2]
        assert (told.height, told.width) == (size if told.orientation < 5 else size[::-1])
        own = 3 if told.palette else told.colours
        assert own == page.own.shape[2]
        assert max(8, told.bits) == 8 * page.own.itemsize
        assert told.alpha == (page.alpha.kind if page.alpha else None)
        assert told.sample_format == ("ieeefp" if page.own.dtype.kind == "f" else "uint")
        assert told.icc == (page.metadata.icc is not None)
        upright = told.resolution
        if upright is not None and told.orientation >= 5:
            upright = upright.turned()
        assert upright == page.metadata.resolution


@pytest.mark.parametrize("name", FILES)
def test_the_header_tells_what_decoding_gives(name):
    check_same(header_of(FILES[name]), decode(FILES[name], limits=Limits(MAX_PIXELS)))


def test_the_facts_are_those_of_the_file():
    (page,) = header_of(FILES["jpeg"]).pages
    assert (page.width, page.height, page.bits, page.channels) == (56, 40, 8, 3)
    assert (page.compression, page.icc, page.orientation) == ("jpeg", True, 6)
    assert [float(side) for side in page.resolution.per_inch()] == [300, 300]
    (page,) = header_of(FILES["tiff_16_gray"]).pages
    assert (page.bits, page.channels, page.compression, page.icc) == (16, 1, "lzw", False)
    (page,) = header_of(FILES["png_palette"]).pages
    assert (page.palette, page.channels, page.bits) == (True, 1, 4)
    assert header_of(FILES["tiff_turned"]).pages[0].orientation == 6


def test_a_reduced_copy_is_no_page():
    header = header_of(FILES["tiff_pages"])
    assert header.container is Container.TIFF
    assert [(page.bits, page.colours) for page in header.pages] == [(8, 3), (16, 1)]


@pytest.mark.parametrize("name", FILES)
def test_a_cut_file_is_never_worse_than_in_a_run(name):
    data = FILES[name]
    for cut in range(0, len(data), max(1, len(data) // 80)):
        run = outcome(lambda: decode(data[:cut], limits=Limits(MAX_PIXELS)))  # noqa: B023
        told = outcome(lambda: header_of(data[:cut]))  # noqa: B023
        if isinstance(told, str):
            assert told == run, cut


@pytest.mark.parametrize(
    "name", ["jpeg", "progressive", "png", "png_16", "tiff", "tiff_pages", "webp", "jp2"]
)
def test_a_file_cut_in_its_middle_is_told_without_its_samples(name):
    data = FILES[name][: len(FILES[name]) // 2]
    assert outcome(lambda: header_of(data)) == "photo.truncated"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_a_large_file_that_was_not_copied_to_its_end_is_told(kind):
    noise = np.random.default_rng(0).integers(0, 255, (600, 800, 3), np.uint8)
    data = pillow(kind, Image.fromarray(noise))
    for cut in (len(data) // 2, len(data) - 3):
        assert outcome(lambda: header_of(data[:cut])) == "photo.truncated"  # noqa: B023


@pytest.mark.parametrize("name", FILES)
@given(changes=st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=12))
@settings(max_examples=40, deadline=None)
def test_what_changed_bytes_make_the_header_refuse_a_run_refuses_too(name, changes):
    data = bytearray(FILES[name])
    for at, value in changes:
        data[at % len(data)] = value
    told = outcome(lambda: header_of(bytes(data)))
    if isinstance(told, str):
        assert isinstance(outcome(lambda: decode(bytes(data), limits=Limits(MAX_PIXELS))), str)


@given(start=st.sampled_from([data[:12] for data in FILES.values()]), rest=st.binary())
@settings(max_examples=200, deadline=None)
def test_a_promising_start_with_anything_behind_it_is_a_fault(start, rest):
    assert isinstance(outcome(lambda: header_of(start + rest)), str)


def bomb(side=60_000):
    chunk = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    packed = struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + packed + bytes(20)


# Reading from a store


class CountingStore(MemoryStore):
    """Refuses to give whole objects, and fails where it is told to."""

    failing = frozenset()
    gone = False

    def get(self, key):
        raise AssertionError(f"all of {key} was asked for")

    def read(self, key, start, size):
        if key in self.failing:
            raise StoreUnavailable(f"can't read {key}")
        return super().get(key)[start : start + size]

    def check_readable(self):
        if self.gone:
            raise SourceMissing("it is gone")


def look(store, *, recipe=None, max_pixels=MAX_PIXELS):
    candidates = [Candidate(found.key, found.size_bytes) for found in store.list()]
    found = read_headers(store, candidates, recipe=recipe or Recipe(), limits=Limits(max_pixels))
    return {photo.key: photo for photo in found}


def fault_of(data, **options):
    return look(CountingStore({"a.jpg": data}), **options)["a.jpg"].fault


def test_photos_come_in_the_order_of_the_source():
    store = CountingStore({f"{number:04}.png": FILES["png"] for number in range(600)})
    assert list(look(store)) == [f"{number:04}.png" for number in range(600)]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "photo.empty"),
        (b"dear archive, ...", "photo.unsupported"),
        (FILES["jpeg"][:-300], "photo.truncated"),
        (bomb(), "photo.too_large"),
        (FILES["jpeg_gray"].replace(b"\xff\xc0", b"\xff\xc3"), "photo.unsupported"),
    ],
)
def test_what_would_fail_is_a_fault_with_its_code_and_advice(data, code):
    fault = fault_of(data)
    assert (fault.code, bool(fault.message), bool(fault.advice)) == (code, True, True)


def test_only_a_small_part_of_large_files_is_read():
    noise = np.random.default_rng(0).integers(0, 255, (1200, 1600, 3), np.uint8)
    files = {
        "a.jpg": pillow("JPEG", Image.fromarray(noise), quality=95, exif=exif()),
        "b.png": pillow("PNG", Image.fromarray(noise)),
        "c.tif": tiff(noise, rowsperstrip=16),
        "d.tif": tiff(np.stack([noise] * 3), compression="lzw", tile=(256, 256)),
        "e.bmp": pillow("BMP", Image.fromarray(noise)),
    }
    for photo in look(CountingStore(files)).values():
        assert photo.fault is None
        assert photo.bytes_read < photo.size_bytes / 10, photo.key


def test_the_layers_of_a_large_tiff_are_not_read():
    layers = bytes(5_000_000)
    data = tiff(extratags=[(37724, 7, len(layers), layers, True)])
    photo = look(CountingStore({"a.tif": data}))["a.tif"]
    assert photo.fault is None
    assert photo.bytes_read < 200_000


def test_a_limit_is_that_of_the_worker_and_of_the_scale():
    pixels = SIDE[0] * SIDE[1]
    assert fault_of(FILES["png"], max_pixels=pixels) is None
    assert fault_of(FILES["png"], max_pixels=pixels - 1).code == "photo.too_large"
    twice = Recipe(background_scale=2)
    assert fault_of(FILES["png"], max_pixels=pixels, recipe=twice).code == "photo.too_large"


def test_what_the_chosen_output_cannot_hold_is_a_fault():
    assert fault_of(FILES["tiff_pages"]) is None
    assert fault_of(FILES["tiff_pages"], recipe=Recipe(output="png")).code == "photo.unsupported"


def test_a_file_with_too_many_bytes_is_too_large_unread():
    store = CountingStore({"a.tif": FILES["tiff"]})
    candidates = [Candidate("a.tif", 10**9)]
    limits = Limits(max_bytes=10**9 - 1)
    (photo,) = read_headers(store, candidates, recipe=Recipe(), limits=limits)
    assert photo.fault.code == "photo.too_large"
    assert photo.bytes_read == 0


def test_a_photo_that_went_away_is_a_fault():
    (photo,) = read_headers(
        CountingStore(), [Candidate("a.jpg", 100)], recipe=Recipe(), limits=Limits(MAX_PIXELS)
    )
    assert photo.fault.code == "photo.missing"


def test_one_file_that_the_store_cannot_give_stops_nothing():
    store = CountingStore({"a.png": FILES["png"], "b.png": FILES["png"]})
    store.failing = {"a.png"}
    photos = look(store)
    assert photos["a.png"].fault.code == "store.unavailable"
    assert photos["b.png"].fault is None


def test_a_store_that_is_gone_ends_it():
    store = CountingStore({"a.png": FILES["png"]})
    store.failing, store.gone = {"a.png"}, True
    with pytest.raises(JobError):
        look(store)


# The shared corpus


def corpus(folder):
    return sorted(path for path in (CORPUS / folder).glob("*") if path.is_file())


needs_corpus = pytest.mark.skipif(not CORPUS.is_dir(), reason="../shared/corpus isn't here")


@needs_corpus
def test_every_malformed_file_ends_as_facts_or_as_the_fault_of_a_run():
    for path in corpus("malformed"):
        data = path.read_bytes()
        told = outcome(lambda: header_of(data))  # noqa: B023
        run = outcome(lambda: decode(data, limits=Limits(MAX_PIXELS)))  # noqa: B023
        if path.name == "bad_crc.png":  # its samples are damaged
            assert not isinstance(told, str)
        elif isinstance(run, str):
            assert told == run, path.name
        else:
            check_same_size(told, run)


def check_same_size(header, photograph):
    for told, page in zip(header.pages, photograph.pages, strict=True):
        size = page.pixels.shape[:2]
        assert (told.height, told.width) == (size if told.orientation < 5 else size[::-1])


@needs_corpus
@pytest.mark.parametrize("path", corpus("formats"), ids=lambda path: path.name)
def test_facts_are_those_that_tifffile_and_pillow_tell(path):
    told = outcome(lambda: header_of(path.read_bytes()))
    if isinstance(told, str):
        assert told == outcome(lambda: decode(path.read_bytes(), limits=Limits(MAX_PIXELS)))
        return
    if path.suffix == ".tif":
        with tifffile.TiffFile(path) as file:
            assert len(told.pages) == len(file.pages)
            for page, stored in zip(told.pages, file.pages, strict=True):
                shape = (page.height, page.width, page.channels)[: len(stored.shape)]
                assert shape == stored.shape
                assert page.bits == stored.bitspersample
                kind = {"uint": "u", "ieeefp": "f"}[page.sample_format]
                assert stored.dtype.kind == ("b" if page.bits == 1 else kind)
                assert page.icc == (34675 in stored.tags)
                assert page.orientation == stored.tags.valueof(274, 1)
        return
    with Image.open(path) as image:
        (page,) = told.pages
        assert (page.width, page.height) == image.size
        assert page.channels == len(image.getbands())
        assert page.icc == ("icc_profile" in image.info)
        if path.suffix != ".avif":  # Pillow has it turned
            assert page.orientation == image.getexif().get(274, 1)


@needs_corpus
def test_the_depth_of_16_bit_png_files_is_told():
    for name in ("rgb16.png", "gray16.png"):
        (page,) = header_of((CORPUS / "formats" / name).read_bytes()).pages
        assert page.bits == 16
