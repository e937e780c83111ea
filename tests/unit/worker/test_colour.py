"""A page's ICC profile says what its samples mean, and a profile that says nothing is told of."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageCms
from skimage.color import rgb2lab

from tests.unit.gpen_engine.fakes import ASTRONAUT, Negative, face_at, make_restorer
from tests.unit.worker.profiles import (
    ADOBE,
    D50_XY,
    DISPLAY_P3,
    PROPHOTO,
    SRGB,
    colorants,
    gray_profile,
    rgb_profile,
    table_profile,
)
from worker.colour import page_colour

CORPUS = Path(__file__).parents[4] / "shared" / "corpus"
GAMMA = round(2.2 * 256) / 256  # as a profile stores it


def light_of(srgb):
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def srgb_of(light):
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


WIDE = {
    "adobe": (rgb_profile(ADOBE, gamma=2.2), colorants(ADOBE), lambda x: x**GAMMA),
    "prophoto": (
        rgb_profile(PROPHOTO, white=D50_XY, gamma=1.8),
        colorants(PROPHOTO, D50_XY),
        lambda x: x ** (round(1.8 * 256) / 256),
    ),
    "p3": (rgb_profile(DISPLAY_P3), colorants(DISPLAY_P3), light_of),
    "tables": (table_profile(ADOBE), colorants(ADOBE), lambda x: x**2.2),
}
"""A profile, its matrix to XYZ, and its curve."""


def samples(*shape, low=0.0, high=1.0):
    return np.random.default_rng(7).uniform(low, high, (*shape, 3)).astype(np.float32)


def delta_e(one, other):
    return np.linalg.norm(rgb2lab(one) - rgb2lab(other), axis=-1)


def space_of(icc, *, gray=False):
    colour = page_colour(icc, gray=gray)
    assert colour.note == ""
    assert colour.space is not None
    return colour.space


@pytest.fixture(params=WIDE)
def wide(request):
    return WIDE[request.param]


# What samples mean.


def test_samples_become_the_colours_that_the_profile_gives_them(wide):
    icc, matrix, curve = wide
    pixels = samples(90, 100)

    shown = space_of(icc).to_srgb(pixels)

    expected = srgb_of(curve(pixels.astype(float)) @ (np.linalg.inv(colorants(SRGB)) @ matrix).T)
    assert shown.dtype == np.float32
    assert delta_e(shown, expected).mean() < 0.05
    assert np.abs(shown - expected).max() < 0.004  # one level of 8 bits


def test_tables_may_say_what_no_matrix_can():
    green, blue, cyan = np.array([[0, 1, 0], [0, 0, 1], [0, 1, 1]], np.float32)
    plain, dark = (space_of(table_profile(SRGB, gamma=1.8, cyan=times)) for times in (1.0, 0.9))

    for colour in (green, blue):
        np.testing.assert_allclose(dark.to_srgb(colour), plain.to_srgb(colour), atol=2e-3)
    assert light_of(dark.to_srgb(cyan))[1] == pytest.approx(0.9, abs=0.01)
    assert light_of(plain.to_srgb(cyan))[1] == pytest.approx(1.0, abs=0.01)


def test_white_black_and_gray_stay_so(wide):
    grays = np.repeat(np.linspace(0, 1, 33, dtype=np.float32)[:, None], 3, axis=1)

    shown = space_of(wide[0]).to_srgb(grays)

    assert np.ptp(shown, axis=1).max() < 1e-3
    np.testing.assert_allclose(shown[[0, -1]], grays[[0, -1]], rtol=0, atol=1e-3)


def test_colours_that_srgb_can_show_come_back_to_their_samples(wide):
    space = space_of(wide[0])
    pixels = samples(90, 100)
    shown = space.to_srgb(pixels)
    inside = ((shown > 0.01) & (shown < 0.99)).all(axis=2)

    back = space.from_srgb(shown)

    assert inside.mean() > 0.1
    assert np.abs(back - pixels)[inside].max() < 0.002
    assert delta_e(space.to_srgb(back), shown).max() < 0.5


def test_8_bits_are_shown_as_any_other_samples_but_coarser(wide):
    space = space_of(wide[0])
    levels = np.rint(samples(60, 60) * 255).astype(np.uint8)

    shown = space.to_srgb(levels)

    exact = space.to_srgb((levels / 255).astype(np.float32)) * 255
    assert shown.dtype == np.uint8
    assert np.abs(shown - exact).mean() < 1.0


@pytest.mark.parametrize(
    "icc", [gray_profile(gamma=2.2), rgb_profile(ADOBE, gamma=2.2)], ids=["gray", "rgb"]
)
def test_a_gray_pages_profile_is_one_curve_for_every_channel(icc):
    pixels = samples(50, 60)
    space = space_of(icc, gray=True)

    shown = space.to_srgb(pixels)

    np.testing.assert_allclose(shown, srgb_of(pixels.astype(float) ** GAMMA), rtol=0, atol=2e-4)
    np.testing.assert_allclose(space.from_srgb(shown), pixels, rtol=0, atol=5e-4)
    np.testing.assert_array_equal(space.to_srgb(pixels[..., :1].repeat(3, 2)).std(axis=2), 0)
    levels = np.rint(pixels * 255).astype(np.uint8)
    expected = srgb_of((levels / 255) ** GAMMA) * 255
    np.testing.assert_allclose(space.to_srgb(levels), expected, rtol=0, atol=0.55)


def test_a_dot_gain_is_a_curve_too():
    ink = np.linspace(1, 0, 256)
    reflected = 1 - np.clip(ink + 0.2 * 4 * ink * (1 - ink), 0, 1)  # 20 % in the middle
    space = space_of(gray_profile(curve=reflected), gray=True)

    shown = space.to_srgb(np.full((1, 3), 0.5, np.float32))

    np.testing.assert_allclose(shown, srgb_of(np.float64(0.3)), rtol=0, atol=0.002)


def test_threads_may_share_one():
    space = space_of(rgb_profile(ADOBE, gamma=2.2))
    parts = [samples(40, 40, low=n / 16) for n in range(8)]
    expected = [space.from_srgb(space.to_srgb(part)) for part in parts]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda part: space.from_srgb(space.to_srgb(part)), parts * 3))

    for one, other in zip(found, expected * 3, strict=True):
        np.testing.assert_array_equal(one, other)


# Which profiles count.


def srgb_gray():
    return gray_profile(curve=light_of(np.linspace(0, 1, 1024)))


@pytest.mark.parametrize(
    ("icc", "gray"),
    [
        (None, False),
        (None, True),
        (ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), False),
        (rgb_profile(SRGB), False),
        (rgb_profile(SRGB), True),
        (srgb_gray(), True),
    ],
    ids=["none", "none on gray", "Pillow's", "by hand", "by hand on gray", "gray curve"],
)
def test_what_says_srgb_needs_no_conversion(icc, gray):
    colour = page_colour(icc, gray=gray)

    assert (colour.space, colour.name, colour.note) == (None, "srgb", "")


def test_a_gamma_of_2_2_is_not_srgbs_curve():
    colour = page_colour(rgb_profile(SRGB, gamma=2.2, name="sRGB, nearly"), gray=False)

    assert colour.space is not None
    assert colour.name == "icc: sRGB, nearly"


@pytest.mark.parametrize("gamma", [None, 1.8])
def test_a_profile_is_named_by_its_own_description(gamma):
    colour = page_colour(rgb_profile(ADOBE, gamma=gamma, name="Scanner Nr. 5"), gray=False)

    assert colour.name == "icc: Scanner Nr. 5"


def test_a_profile_without_a_readable_name_still_counts():
    colour = page_colour(rgb_profile(ADOBE, gamma=2.2, name="Gerät"), gray=False)

    assert colour.space is not None
    assert colour.name == "icc: no description"  # version 2 has ASCII


ADOBE_PROFILE = WIDE["adobe"][0]
UNUSABLE = {
    "no profile": (b"not an icc profile" * 20, False),
    "nothing": (b"", False),
    "cut off": (ADOBE_PROFILE[:300], False),
    "without colours": (ADOBE_PROFILE.replace(b"rTRC", b"xTRC"), False),
    "all black": (gray_profile(curve=np.zeros(64)), True),
    "a negative": (gray_profile(curve=np.linspace(1, 0, 64)), True),
    "gray on colours": (gray_profile(gamma=2.2), False),
    "no way back": (table_profile(ADOBE, both_ways=False, kind=b"scnr"), False),
    "Lab": (ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes(), False),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_profile_that_cannot_be_used_is_told_of(name):
    icc, gray = UNUSABLE[name]

    colour = page_colour(icc, gray=gray)

    assert (colour.space, colour.name) == (None, "srgb")
    assert colour.note.startswith(
        "the ICC profile couldn't be used; the samples were taken for sRGB ("
    )


def test_the_note_says_what_is_wrong_with_a_profile_for_something_else():
    colour = page_colour(gray_profile(gamma=2.2), gray=False)

    assert colour.note.endswith("(it is one for GRAY)")


@pytest.mark.parametrize("icc", [ADOBE_PROFILE, WIDE["p3"][0]], ids=["v2", "v4"])
def test_whatever_is_damaged_in_a_profile_the_answer_is_finite_or_none(icc):
    rng = np.random.default_rng(3)
    used = 0
    for _ in range(60):
        damaged = bytearray(icc)
        for place in rng.integers(128, len(icc), rng.integers(1, 8)):
            damaged[place] = rng.integers(256)
        colour = page_colour(bytes(damaged), gray=False)
        if colour.space is not None:
            used += 1
            shown = colour.space.to_srgb(samples(9, 9))
            assert np.isfinite(colour.space.from_srgb(shown)).all()
    assert 0 < used < 60


# The corpus.


def profile_in(name):
    path = CORPUS / name
    if not path.exists():
        pytest.skip(f"{name} isn't here")
    with Image.open(path) as image:
        return image.info["icc_profile"], image.mode == "L"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("formats/alpha_oval.png", "icc: Test AdobeRGB-like (CC0)"),
        ("formats/gray_icc_progressive.jpg", "icc: Test Gray gamma 2.2 (CC0)"),
        ("faces/IrishLate1800s.jpg", "icc: Display P3"),
        ("faces/BoulevardDuTemple1838.jpg", "icc: EPSON  Gray - Gamma 1.8"),
        ("faces/astronaut.png", "srgb"),
        ("faces/GalwayIreland1902.jpg", "srgb"),
        ("faces/Cork1905.jpg", "srgb"),
    ],
)
def test_the_profiles_of_real_files_are_known(name, expected):
    icc, gray = profile_in(name)

    colour = page_colour(icc, gray=gray)

    assert (colour.name, colour.note) == (expected, "")


def test_the_garbage_in_a_real_file_is_told_of():
    icc, gray = profile_in("malformed/icc_garbage.jpg")

    assert "couldn't be used" in page_colour(icc, gray=gray).note


# Together with the engine.


class Warmer(Negative):
    """Makes faces redder and paler, and keeps what it was shown."""

    def answer(self, x, precision):
        self.seen = x.clone()
        answer = x * 0.8
        answer[:, 0] += 0.15
        return answer


class Same(Negative):
    def answer(self, x, precision):
        return x


def region_of(restoration):
    x0, y0, x1, y1 = restoration.faces[0].region
    return np.s_[y0:y1, x0:x1]


@pytest.fixture(scope="module")
def scene():
    return skimage.data.astronaut().astype(np.float32) / 255


def test_a_face_is_restored_to_the_same_colours_however_the_scene_is_stored(scene, wide):
    space = space_of(wide[0])
    stored = np.rint(space.from_srgb(scene) * 65535).astype(np.uint16)
    plain = make_restorer(Warmer(128), ASTRONAUT).restore(np.rint(scene * 65535).astype(np.uint16))

    result = make_restorer(Warmer(128), ASTRONAUT).restore(stored, colour=space)

    face = region_of(plain)
    truth = plain.image[face] / 65535
    shown = space.to_srgb((result.image / 65535).astype(np.float32))[face]
    assert delta_e(truth, scene[face]).mean() > 3.0
    assert delta_e(shown, truth).mean() < 0.3


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_the_network_leaves_alone_is_the_masters_within_rounding(wide, dtype):
    top = np.iinfo(dtype).max
    picture = np.rint(samples(360, 400) * top).astype(dtype)

    result = make_restorer(Same(), face_at(200.0, 180.0)).restore(picture, colour=space_of(wide[0]))

    assert result.faces[0].restored
    np.testing.assert_array_equal(result.image, picture)


def test_what_the_network_leaves_alone_is_the_masters_in_the_deepest_shadows_too(wide):
    rng = np.random.default_rng(5)
    picture = rng.integers(0, 30, (360, 400, 3)).astype(np.uint16)
    # Half the face is lit, in many colours: nobody takes it for a toned print.
    picture[:, :200] = rng.integers(20_000, 50_000, (18, 10, 3)).repeat(20, 0).repeat(20, 1)
    restorer = make_restorer(Same(128), face_at(200.0, 100.0))

    result = restorer.restore(picture, colour=space_of(wide[0]))

    assert result.faces[0].restored
    np.testing.assert_array_equal(result.image, picture)


def test_a_gray_page_is_shown_as_its_profile_says_and_stays_gray(scene):
    space = space_of(gray_profile(gamma=1.4), gray=True)
    page = np.rint(scene[..., 1:2].repeat(3, 2) ** 2 * 65535).astype(np.uint16)
    network = Warmer(128)

    result = make_restorer(network, ASTRONAUT).restore(page, colour=space)

    assert (result.image != page).any()
    np.testing.assert_array_equal(result.image, result.image[..., :1].repeat(3, 2))
    seen = ((network.seen[0].numpy() + 1) / 2).transpose(1, 2, 0)
    unconverted = Warmer(128)
    make_restorer(unconverted, ASTRONAUT).restore(page)
    raw = ((unconverted.seen[0].numpy() + 1) / 2).transpose(1, 2, 0)
    expected = srgb_of(np.clip(raw, 0, 1) ** (round(1.4 * 256) / 256))
    np.testing.assert_allclose(seen, expected, rtol=0, atol=1e-3)
