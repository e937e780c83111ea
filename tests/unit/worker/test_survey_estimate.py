"""Expected bytes against those of real encodings."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import tifffile
from PIL import Image

from jobs.errors import PhotoUnsupported
from jobs.recipe import Recipe
from tests.unit.worker.whole import encode
from worker.codec import decode, read_header
from worker.codec.limits import Limits
from worker.survey.estimate import expected_bytes

CORPUS = Path(__file__).parents[4] / "shared" / "corpus"
MAX_PIXELS = 100_000_000
SIDECAR_BYTES = 9000
#: Encoding takes long: the small files stand for the large ones.
MAX_BYTES = 700_000


def expect(data, **recipe):
    header = read_header(data, limits=Limits(MAX_PIXELS))
    return expected_bytes(header, len(data), Recipe(**recipe))


def derive(data, *, output="same", jpeg_quality=95):
    photograph = decode(data, limits=Limits(MAX_PIXELS))
    pixels = [page.pixels for page in photograph.pages]
    return len(
        encode(photograph, pixels, output=output, jpeg_quality=jpeg_quality, software="test").data
    )


def portrait():
    return np.asarray(skimage.data.astronaut())


def pillow(kind, array=None, **options):
    out = BytesIO()
    Image.fromarray(portrait() if array is None else array).save(out, kind, **options)
    return out.getvalue()


def tiff(array, **options):
    out = BytesIO()
    tifffile.imwrite(out, array, **options)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "recipe"),
    [
        (pillow("JPEG", quality=75), {}),
        (pillow("JPEG", quality=95), {}),
        (pillow("JPEG", portrait()[:, :, 0], quality=85), {}),
        (pillow("JPEG", quality=85), {"output": "tiff"}),
        (pillow("JPEG", quality=85), {"output": "jpeg"}),
        (pillow("JPEG", quality=85), {"output": "jpeg", "jpeg_quality": 80}),
        (pillow("BMP"), {}),
        (pillow("PNG"), {}),
        (tiff(portrait(), photometric="rgb"), {}),
        (tiff(portrait().astype(np.uint16) * 257, photometric="rgb"), {}),
        (tiff(portrait(), photometric="rgb", compression="zlib", predictor=True), {}),
        (tiff(portrait(), photometric="rgb", compression="jpeg"), {}),
    ],
)
def test_a_photograph_takes_about_what_is_expected(data, recipe):
    assert expect(data, **recipe) == pytest.approx(derive(data, **recipe) + SIDECAR_BYTES, rel=0.6)


def test_an_enlarged_picture_takes_more_and_less_than_its_pixels_would():
    data = pillow("PNG")
    assert 2 < expect(data, background_scale=2) / expect(data) < 4
    assert 6 < expect(data, background_scale=4) / expect(data) < 16


def test_a_lower_quality_takes_less():
    data = pillow("JPEG")
    sizes = [expect(data, output="jpeg", jpeg_quality=quality) for quality in (50, 70, 85, 95)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1] / 2


def test_a_blank_page_takes_something_but_not_less_than_nothing():
    assert SIDECAR_BYTES < expect(pillow("JPEG", np.zeros((2000, 2000, 3), np.uint8))) < 1_000_000


def test_what_the_output_cannot_hold_is_refused_as_in_a_run():
    data = tiff(np.stack([portrait()] * 2), photometric="rgb")
    with pytest.raises(PhotoUnsupported, match="2 pages"):
        expect(data, output="jpeg")


@pytest.mark.skipif(not CORPUS.is_dir(), reason="../shared/corpus isn't here")
@pytest.mark.parametrize("folder", ["faces", "formats"])
def test_the_sum_over_the_corpus_is_within_35_percent(folder):
    expected = found = 0
    for path in sorted((CORPUS / folder).glob("*"))[::2]:
        data = path.read_bytes()
        if len(data) > MAX_BYTES:
            continue
        try:
            found += derive(data)
        except PhotoUnsupported:
            continue
        expected += expect(data) - SIDECAR_BYTES
    assert expected == pytest.approx(found, rel=0.35)
