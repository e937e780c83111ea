"""Networks see sRGB whatever a photograph's samples mean, and what comes back means the same."""

import numpy as np
import pytest
import torch
from skimage.color import rgb2lab
from torch import nn

from gpen_engine import FacePolicy, Finish, LargeFaces, Treatment
from gpen_engine.background import Background
from gpen_engine.detect import Detector
from gpen_engine.faces import ModelIdentity
from gpen_engine.reference import restore_compatibly
from tests.unit.gpen_engine.fakes import (
    ASTRONAUT,
    CPU,
    Negative,
    WideGamut,
    face_at,
    make_restorer,
)

WIDE = WideGamut()
DTYPES = [np.uint8, np.uint16]
FACE = face_at(200.0, 180.0)
CLOSE = 0.06
LEVEL = 2 / 255
"""One of 8 bits, as networks see it."""


def stored(srgb):
    """Store a picture in sRGB, 0 to 1, with the samples of the wide gamut."""
    return np.rint(WIDE.from_srgb(srgb.astype(np.float32)) * 65535.0).astype(np.uint16)


def shown(pixels):
    return WIDE.to_srgb((pixels / np.iinfo(pixels.dtype).max).astype(np.float32))


def delta_e(one, other):
    return np.linalg.norm(rgb2lab(one) - rgb2lab(other), axis=-1)


@pytest.fixture(scope="module")
def scene(astronaut):
    return astronaut / 255.0


@pytest.fixture(scope="module", params=DTYPES, ids=lambda dtype: dtype.__name__)
def vivid(request):
    """Any samples at all: most of their colours are none that sRGB can show."""
    top = np.iinfo(request.param).max
    return np.random.default_rng(5).integers(0, top + 1, (360, 400, 3)).astype(request.param)


class Spy(Negative):
    """Returns what `change` makes of a face, and keeps what it was shown."""

    def __init__(self, change=lambda x: x, **sizes):
        super().__init__(**sizes)
        self.change = change
        self.seen: list[torch.Tensor] = []

    def answer(self, x, precision):
        self.seen.append(x.clone())
        return self.change(x)


def warmer(x):
    return x * 0.8 + torch.tensor([0.15, 0.0, -0.15])[None, :, None, None]


def region_of(restoration):
    x0, y0, x1, y1 = restoration.faces[0].region
    return np.s_[y0:y1, x0:x1]


# What the networks see.


def test_the_face_network_sees_the_colours_that_the_samples_mean(scene):
    plain, wide = Spy(size=128), Spy(size=128)

    make_restorer(plain, ASTRONAUT).restore(np.rint(scene * 65535).astype(np.uint16))
    make_restorer(wide, ASTRONAUT).restore(stored(scene), colour=WIDE)

    difference = (wide.seen[0] - plain.seen[0]).abs()
    assert difference.mean() < LEVEL
    assert difference.quantile(0.99) < 4 * LEVEL  # at edges, it matters what was averaged


def test_every_picture_has_its_own_colours(scene):
    spy = Spy(size=128)
    pictures = [np.rint(scene * 65535).astype(np.uint16), stored(scene)]

    make_restorer(spy, ASTRONAUT).restore_many(pictures, colours=[None, WIDE])

    (faces,) = spy.seen
    assert (faces[0] - faces[1]).abs().mean() < LEVEL


def test_the_detector_sees_the_colours_that_the_samples_mean(scene, detector):
    class SpyNetwork(nn.Module):
        def forward(self, x):
            seen.append(x)
            return detector._network(x)

    seen: list[torch.Tensor] = []
    spy = Detector(SpyNetwork(), detector.identity, device=CPU)
    head = scene[:256, 100:356]

    (plain,) = spy.detect(np.rint(head * 255).astype(np.uint8))
    (wide,) = spy.detect(stored(head), colour=WIDE)

    half = len(seen) // 2
    assert half * 2 == len(seen)
    for one, other in zip(seen[:half], seen[half:], strict=True):
        assert (one - other).abs().mean() < 0.6  # of 255 levels
    np.testing.assert_allclose(wide.landmarks, plain.landmarks, atol=0.5)


def test_the_background_network_sees_the_colours_that_the_samples_mean(scene):
    seen = []

    class Network:
        multiple, scale, precisions = 1, 1, ()

        def __call__(self, x):
            seen.append(x.clone())
            return x

    background = Background(Network(), ModelIdentity("fake", "0" * 64), device=CPU)
    background.enhance(stored(scene), 1, colour=WIDE)

    (tile,) = seen
    np.testing.assert_allclose(tile[0].permute(1, 2, 0), scene, rtol=0, atol=2e-3)


# What comes back.


def test_the_same_scene_gives_the_same_face_however_it_is_stored(engine, scene):
    head = scene[:256, 80:336]
    plain = engine.restore(np.rint(head * 65535).astype(np.uint16))

    wide = engine.restore(stored(head), colour=WIDE)
    mistaken = engine.restore(stored(head))

    face = region_of(plain)
    truth = plain.image[face] / 65535.0
    off = delta_e(shown(wide.image)[face], truth)
    assert off.mean() < CLOSE
    assert np.quantile(off, 0.99) < 1.0
    assert delta_e(shown(mistaken.image)[face], truth).mean() > 2 * off.mean()


def test_a_change_of_colour_is_the_same_in_any_samples(scene):
    plain = make_restorer(Spy(warmer, size=128), ASTRONAUT).restore(
        np.rint(scene * 65535).astype(np.uint16)
    )

    wide = make_restorer(Spy(warmer, size=128), ASTRONAUT).restore(stored(scene), colour=WIDE)

    face = region_of(plain)
    moved = delta_e(plain.image[face] / 65535.0, scene[face]).mean()
    assert moved > 3.0
    assert delta_e(shown(wide.image)[face], plain.image[face] / 65535.0).mean() < moved / 10


def test_pixels_outside_the_regions_keep_every_bit(vivid):
    result = make_restorer(Negative(), FACE).restore(vivid, colour=WIDE)

    changed = (result.image != vivid).any(axis=2)
    assert changed[region_of(result)].any()
    changed[region_of(result)] = False
    assert not changed.any()


def test_strength_0_leaves_every_bit(vivid):
    treatment = Treatment(finish=Finish(strength=0.0))

    result = make_restorer(Negative(), FACE).restore(vivid, treatment, colour=WIDE)

    np.testing.assert_array_equal(result.image, vivid)


@pytest.mark.parametrize("large", [LargeFaces.BLEND, LargeFaces.TILE])
def test_what_the_network_leaves_alone_keeps_every_bit_also_where_srgb_cannot_show_it(vivid, large):
    assert (shown(vivid) == 0).any(axis=2).mean() > 0.3

    result = make_restorer(Spy(), FACE).restore(
        vivid, Treatment(FacePolicy(large=large)), colour=WIDE
    )

    assert result.faces[0].restored
    np.testing.assert_array_equal(result.image, vivid)


def test_a_gray_print_stays_gray():
    light = np.random.default_rng(1).integers(0, 65536, (360, 400, 1)).astype(np.uint16)
    picture = np.repeat(light, 3, axis=2)

    result = make_restorer(Spy(warmer, size=128), FACE).restore(picture, colour=WIDE)

    assert (result.image != picture).any()
    np.testing.assert_array_equal(result.image, np.repeat(result.image[..., :1], 3, axis=2))


def test_a_toned_print_keeps_its_tone():
    light = np.random.default_rng(1).uniform(0.2, 0.8, (360, 400, 1))
    sepia = light ** np.array([0.8, 1.0, 1.3])
    picture = stored(sepia)

    result = make_restorer(Spy(warmer, size=128), FACE).restore(picture, colour=WIDE)

    face = region_of(result)
    before, after = (rgb2lab(shown(image))[face] for image in (picture, result.image))
    assert abs(after[..., 0] - before[..., 0]).max() > 3.0
    assert np.hypot(*(after - before)[..., 1:].mean(axis=(0, 1))) < 1.0


# The background.


def background(network=lambda x: x, *, scale=1):
    class Network:
        multiple, precisions = 1, ()

        def __call__(self, x):
            return network(x.repeat_interleave(scale, 2).repeat_interleave(scale, 3))

    Network.scale = scale
    return Background(Network(), ModelIdentity("fake", "0" * 64), device=CPU)


def test_a_background_that_its_network_leaves_alone_keeps_colours_that_srgb_cannot_show(vivid):
    result = background().enhance(vivid, 1, colour=WIDE)

    np.testing.assert_array_equal(result, vivid)


def test_an_enlarged_background_keeps_the_colours_that_the_samples_mean(scene):
    picture = stored(scene)

    result = background(lambda x: x * 0.5, scale=2).enhance(picture, 2, colour=WIDE)

    darker = scene.repeat(2, 0).repeat(2, 1) / 2
    assert result.shape == (1024, 1024, 3)
    assert delta_e(shown(result), darker).max() < 0.5


def test_a_gray_background_stays_gray():
    picture = np.repeat(np.arange(0, 65536, 16, np.uint16).reshape(64, 64, 1), 3, axis=2)

    result = background(warmer_shares).enhance(picture, 1, colour=WIDE)

    assert (result != picture).any()
    np.testing.assert_array_equal(result, np.repeat(result[..., :1], 3, axis=2))


def warmer_shares(x):
    return (x + torch.tensor([0.2, 0.0, -0.1])[None, :, None, None]).clamp(0, 1)


@pytest.mark.parametrize("scale", [1, 2])
def test_a_face_on_a_restored_background_has_its_own_colours(scene, scale):
    picture = stored(scene)
    restorer = make_restorer(Spy(), ASTRONAUT, background=background(scale=scale))

    result = restorer.restore(picture, Treatment(background_scale=scale), colour=WIDE)

    large = picture.repeat(scale, 0).repeat(scale, 1)
    assert result.faces[0].restored
    assert delta_e(shown(result.image), shown(large))[region_of(result)].mean() < 1.0


# The published way.


def test_the_compatible_way_takes_all_samples_for_srgb_and_says_so(scene):
    picture = np.rint(WIDE.from_srgb(scene.astype(np.float32)) * 255).astype(np.uint8)

    seen = []
    spy = background(lambda x: seen.append(x.clone()) or x)

    result = make_restorer(Negative(), ASTRONAUT, background=spy).restore(
        picture, Treatment(compatible=True, background_scale=1), colour=WIDE
    )

    expected, _ = restore_compatibly(picture, [ASTRONAUT], lambda x: -x, size=32)
    np.testing.assert_array_equal(result.image, expected)
    np.testing.assert_allclose(seen[0][0].permute(1, 2, 0) * 255, picture, atol=1e-3)
    assert any("ICC profile" in note for note in result.notes)
