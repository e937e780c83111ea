"""A picture run over tiles is the picture run whole: no seam, no loss, no memory, no surprise."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from gpen_engine.errors import ImageError, OutOfMemory
from gpen_engine.tiling import run_tiled

CPU = torch.device("cpu")
RADIUS = 4
"""How far `SmallNetwork` looks."""


class SmallNetwork(nn.Module):
    """A residual network of two random convolutions, `scale` times as large at its end."""

    def __init__(self, scale: int = 1) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.first = nn.Conv2d(3, 8, 5, padding=2)
        self.second = nn.Conv2d(8, 3 * scale**2, 5, padding=2)
        self.scale = scale
        for weight in self.parameters():
            weight.requires_grad_(False)
            weight.normal_(std=0.15, generator=generator)

    def forward(self, x):
        change = functional.pixel_shuffle(self.second(functional.relu(self.first(x))), self.scale)
        return functional.interpolate(x, scale_factor=self.scale) * 0.7 + 0.1 * change + 0.1


class Enlarging:
    """The identity, enlarged by repetition; it remembers the tiles it was shown."""

    def __init__(self, scale: int = 1) -> None:
        self.scale = scale
        self.shapes: list[tuple[int, int]] = []

    def __call__(self, x):
        assert x.shape[:2] == (1, 3)
        self.shapes.append((x.shape[2], x.shape[3]))
        return x.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)


class ShortOfMemory:
    """A model that memory isn't always there for: at some of its calls, or for large tiles."""

    def __init__(self, model, *, at: int | None = None, above_px: int | None = None) -> None:
        self.model, self.at, self.above_px = model, at, above_px
        self.shapes: list[tuple[int, int]] = []

    def __call__(self, x):
        self.shapes.append((x.shape[2], x.shape[3]))
        too_large = self.above_px is not None and max(x.shape[2:]) > self.above_px
        if too_large or len(self.shapes) - 1 == self.at:
            x.zero_()  # what a pass leaves behind mustn't show
            raise torch.OutOfMemoryError("tried to allocate")
        return self.model(x)


def picture(height, width, dtype=np.uint8, seed=3):
    """Smooth shapes under noise, as a photograph has them."""
    random = np.random.default_rng(seed)
    if dtype == np.float32:
        return random.uniform(-1, 1, (height, width, 3)).astype(np.float32)
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 17 + k) * np.cos(y / 11 - k) for k in range(3)], axis=2)
    levels = 0.5 + 0.3 * waves + random.normal(0, 0.06, waves.shape)
    top = np.iinfo(dtype).max
    return np.rint(np.clip(levels, 0, 1) * top).astype(dtype)


def whole(model, image):
    """Run a picture in one piece."""
    top = np.float32(np.iinfo(image.dtype).max)
    x = torch.from_numpy(image.astype(np.float32) / top).permute(2, 0, 1)[None]
    answer = model(x)[0].permute(1, 2, 0).numpy() * top
    return np.clip(np.rint(answer), 0, top).astype(image.dtype)


def run(model, image, **options):
    options = {"tile_px": 64, "overlap_px": 16, "device": CPU} | options
    return run_tiled(model, image, **options)


def furthest(one, other):
    return int(np.abs(one.astype(np.int64) - other.astype(np.int64)).max())


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("size", [(1, 1), (1, 200), (150, 1), (64, 64), (65, 129), (131, 77)])
def test_the_identity_is_exact(size, dtype, scale):
    image = picture(*size, dtype)

    answer = run(Enlarging(scale), image, scale=scale)

    assert answer.dtype == dtype
    np.testing.assert_array_equal(answer, image.repeat(scale, 0).repeat(scale, 1))


@settings(max_examples=150, deadline=None)
@given(
    size=st.tuples(st.integers(1, 260), st.integers(1, 40)),
    multiple=st.sampled_from([1, 2, 8, 16]),
    overlap_px=st.integers(1, 40),
    stride_px=st.integers(2, 60),
    margin=st.floats(0, 0.49),
    fixed=st.booleans(),
    room_px=st.integers(60, 200),
)
def test_the_identity_is_exact_however_tiles_lie(
    size, multiple, overlap_px, stride_px, margin, fixed, room_px
):
    image = picture(*size)
    overlap_px *= multiple
    tile_px = overlap_px + stride_px * multiple
    model = Enlarging() if fixed else ShortOfMemory(Enlarging(), above_px=room_px)
    options = {"overlap_px": overlap_px, "margin_px": int(margin * overlap_px), "fixed": fixed}
    try:
        answer = run(model, image, tile_px=tile_px, multiple=multiple, **options)
    except OutOfMemory:
        return

    np.testing.assert_array_equal(answer, image)
    used = [shape for shape in model.shapes if fixed or max(shape) <= room_px]
    assert all(side % multiple == 0 and side <= tile_px for shape in used for side in shape)
    assert not fixed or set(used) == {(tile_px, tile_px)}


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiles_don_t_show_when_margins_cover_what_the_model_looks_at(dtype, scale):
    image = picture(150, 203, dtype)
    model = SmallNetwork(scale)

    answer = run(model, image, scale=scale, margin_px=RADIUS)

    # One level where a float's last bit falls on the other side of a half.
    assert furthest(answer, whole(model, image)) <= 1


def steps(image):
    """Mean difference between neighbouring columns, and between neighbouring rows."""
    levels = image.astype(np.float64)
    columns = np.abs(np.diff(levels, axis=1)).mean(axis=(0, 2))
    rows = np.abs(np.diff(levels, axis=0)).mean(axis=(1, 2))
    return np.concatenate([columns, rows])


@pytest.mark.parametrize("margin_px", [None, 0, 2])
@pytest.mark.parametrize("scale", [1, 2])
def test_no_seam_shows_even_where_the_model_looks_beyond_the_margins(scale, margin_px):
    image = picture(150, 203)
    model = SmallNetwork(scale)

    tiled = run(model, image, scale=scale, margin_px=margin_px)

    assert (steps(tiled) <= 1.05 * steps(whole(model, image))).all()


def test_sizes_that_are_no_multiple_are_mirrored_at_the_pictures_edge_and_cut_off_again():
    seen = []

    def model(x):
        seen.append(x[0].permute(1, 2, 0).numpy().copy())
        return x

    image = picture(5, 6, np.float32)

    answer = run(model, image, multiple=8)

    (tile,) = seen
    np.testing.assert_array_equal(tile, np.pad(image, ((0, 3), (0, 2), (0, 0)), mode="reflect"))
    np.testing.assert_array_equal(answer, image)


def test_a_picture_that_fits_is_one_tile_and_others_are_as_few_and_as_equal_as_can_be():
    model = Enlarging()

    run(model, picture(64, 40))
    run(model, picture(64, 113))

    assert model.shapes == [(64, 40), (64, 49), (64, 49), (64, 49)]


@pytest.mark.parametrize("size", [(64, 64), (100, 128), (40, 64), (65, 200)])
def test_a_close_up_larger_than_the_network_goes_through_it_in_tiles_of_its_one_size(size):
    model = Enlarging()
    close_up = picture(*size, np.float32)

    answer = run(model, close_up, overlap_px=32, fixed=True)

    assert set(model.shapes) == {(64, 64)}
    np.testing.assert_array_equal(answer, close_up)


def test_the_input_is_never_changed():
    image = picture(100, 100)
    before = image.copy()
    image.flags.writeable = False

    run(lambda x: x.mul_(0.5), image)

    np.testing.assert_array_equal(image, before)


def test_answers_are_rounded_to_the_nearest_level():
    image = picture(20, 20) // 2
    np.testing.assert_array_equal(run(lambda x: x + 0.6 / 255, image), image + 1)
    np.testing.assert_array_equal(run(lambda x: x + 0.4 / 255, image), image)


def test_values_beyond_white_and_black_are_clipped_not_wrapped():
    image = picture(20, 20)
    bright = run(lambda x: x * 0 + 1.4, image)
    dark = run(lambda x: x * 0 - 0.4, image)
    assert (bright == 255).all()
    assert (dark == 0).all()


@pytest.mark.parametrize("call", range(9))
def test_memory_that_runs_out_at_any_tile_doesn_t_show(call):
    image = picture(150, 133)
    model = SmallNetwork()
    expected = run(model, image, margin_px=RADIUS)
    told = []

    short = ShortOfMemory(model, at=call)
    answer = run(short, image, margin_px=RADIUS, minimum_px=32, on_shrink=told.append)

    assert len(told) == 1
    assert told[0] < max(short.shapes[call])
    assert furthest(answer, expected) <= 1


def test_tiles_stay_small_once_memory_ran_out_and_only_the_area_that_failed_is_done_again():
    short = ShortOfMemory(Enlarging(), above_px=40)
    image = picture(64, 208)

    answer = run(short, image, minimum_px=32)

    np.testing.assert_array_equal(answer, image)
    assert short.shapes == [(64, 64)] + [(40, 40)] * 16


def test_memory_that_runs_out_again_shrinks_again_and_each_size_is_told():
    told = []
    short = ShortOfMemory(SmallNetwork(), above_px=80)
    image = picture(300, 200)
    options = {"tile_px": 256, "margin_px": RADIUS, "minimum_px": 32}

    answer = run(short, image, on_shrink=told.append, **options)

    assert told == [108, 62]
    assert furthest(answer, run(SmallNetwork(), image, **options)) <= 1


def test_a_model_that_never_fits_is_a_clear_failure():
    told = []
    short = ShortOfMemory(Enlarging(), above_px=0)
    with pytest.raises(OutOfMemory, match="37 x 37 px on cpu, and tiles don't get smaller"):
        run(short, picture(100, 100), minimum_px=48, on_shrink=told.append)
    assert told == [48]


def test_a_tile_of_fixed_size_that_doesn_t_fit_is_a_clear_failure():
    with pytest.raises(OutOfMemory, match="64 x 64"):
        run(ShortOfMemory(Enlarging(), above_px=0), picture(100, 100), fixed=True)


def test_another_fault_of_the_model_is_not_taken_for_memory():
    def broken(_x):
        raise RuntimeError("expected scalar type Half")

    with pytest.raises(RuntimeError, match="Half"):
        run(broken, picture(10, 10))


def test_a_model_with_another_scale_than_said_is_refused():
    with pytest.raises(ValueError, match=r"\(1, 3, 20, 20\), expected \(1, 3, 40, 40\)"):
        run(Enlarging(1), picture(20, 20), scale=2)


@pytest.mark.parametrize(
    "sizes",
    [
        {"overlap_px": 63},
        {"overlap_px": 0},
        {"margin_px": 8},
        {"margin_px": -1},
        {"multiple": 64},
        {"tile_px": 65, "multiple": 4, "fixed": True},
    ],
    ids=str,
)
def test_sizes_that_contradict_each_other_are_refused(sizes):
    with pytest.raises(ValueError, match="can't overlap"):
        run(Enlarging(), picture(10, 10), **sizes)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.float64),
    ],
    ids=lambda array: f"{array.shape}-{array.dtype}",
)
def test_what_is_no_picture_is_refused(array):
    with pytest.raises(ImageError):
        run(Enlarging(), array)


def test_memory_beside_the_arrays_is_that_of_a_few_tiles_whatever_the_picture():
    image = picture(1500, 1500)
    tracemalloc.start()
    try:
        run(Enlarging(2), image, scale=2, tile_px=128)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    answer_bytes, tile_bytes = image.nbytes * 4, 256 * 256 * 3 * 4
    assert peak - answer_bytes < 6 * tile_bytes
