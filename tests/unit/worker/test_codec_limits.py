import math

import numpy as np
import pytest

from jobs.errors import PhotoTooLarge
from tests.unit.worker.codec_masters import MASTERS, photo, pillow, tiff
from worker.codec import Limits, decode, read_header

MANY = 10**9


@pytest.mark.parametrize("read", [decode, read_header])
@pytest.mark.parametrize(
    "name", ["tiff rgb 8", "png rgb 8", "jpeg rgb", "webp lossy", "jp2 gray 12"]
)
def test_a_file_may_have_so_many_bytes_and_no_more(read, name):
    data = MASTERS[name]()
    assert read(data, limits=Limits(max_bytes=len(data))).pages
    with pytest.raises(PhotoTooLarge, match="GPEN_MAX_BYTES"):
        read(data, limits=Limits(max_bytes=len(data) - 1))


@pytest.mark.parametrize("read", [decode, read_header])
def test_a_file_may_have_so_many_pages_and_no_more(read):
    data = tiff(photo(), pages=5)
    assert len(read(data, limits=Limits(max_pages=5)).pages) == 5
    with pytest.raises(PhotoTooLarge, match="GPEN_MAX_PAGES"):
        read(data, limits=Limits(max_pages=4))


@pytest.mark.parametrize("read", [decode, read_header])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_small_file_may_not_unfold_to_a_huge_picture(read, kind):
    options = {"compression": "tiff_adobe_deflate"} if kind == "TIFF" else {}
    blank = pillow(np.zeros((9_500, 9_500), np.uint8), kind, **options)
    ratio = 9_500**2 * 3 / len(blank)
    assert read(blank, limits=Limits(max_ratio=ratio + 1)).pages
    with pytest.raises(PhotoTooLarge, match="GPEN_MAX_RATIO"):
        read(blank, limits=Limits(max_ratio=ratio - 1))


def test_a_blank_page_is_no_bomb():
    assert decode(pillow(np.zeros((4_000, 4_000), np.uint8), "PNG"), limits=Limits(max_ratio=1))


@pytest.mark.parametrize("name", ["max_pixels", "max_bytes", "max_pages", "max_ratio"])
@pytest.mark.parametrize("value", [0, -1, math.nan])
def test_no_limit_can_be_off(name, value):
    with pytest.raises(ValueError, match="above 0"):
        Limits(**{name: value})


def test_an_enlarged_picture_has_to_fit_too():
    assert Limits(MANY).enlarged(4) == Limits(MANY // 16)
