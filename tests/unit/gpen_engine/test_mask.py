"""The soft mask of an aligned face."""

import numpy as np
import pytest

from gpen_engine.align import template
from gpen_engine.faces import Template
from gpen_engine.mask import soft_face_mask

SIZES = [16, 32, 128, 512]


@pytest.mark.parametrize("kind", Template)
@pytest.mark.parametrize("size", SIZES)
def test_the_mask_is_zero_well_inside_the_border(size, kind):
    mask = soft_face_mask(size, kind)
    margin = max(1, int(size * 0.04))

    edge = np.ones_like(mask, bool)
    edge[margin:-margin, margin:-margin] = False
    assert not mask[edge].any()


@pytest.mark.parametrize("size", SIZES)
def test_the_mask_is_symmetric_and_reaches_one(size):
    mask = soft_face_mask(size)

    assert mask.shape == (size, size)
    assert mask.dtype == np.float32
    np.testing.assert_allclose(mask, mask[:, ::-1], rtol=0, atol=1e-5)
    assert mask.max() == 1.0
    assert mask.min() == 0.0


@pytest.mark.parametrize("kind", Template)
@pytest.mark.parametrize("size", [128, 512])
def test_the_mask_is_whole_on_all_five_landmarks(size, kind):
    mask = soft_face_mask(size, kind)

    for x, y in template(size, kind):
        assert mask[round(y), round(x)] > 0.9


def test_the_mask_falls_without_steps():
    mask = soft_face_mask(512)

    assert np.abs(np.diff(mask, axis=0)).max() < 0.03
    assert np.abs(np.diff(mask, axis=1)).max() < 0.03


def test_the_mask_looks_the_same_at_every_size():
    coarse = soft_face_mask(512).reshape(64, 8, 64, 8).mean(axis=(1, 3))

    np.testing.assert_allclose(soft_face_mask(64), coarse, rtol=0, atol=0.01)
