"""The background is restored at its own depth and colour, without seams, whatever memory does."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gpen_engine import background as module
from gpen_engine.background import Background, load_background
from gpen_engine.checkpoint import hash_file
from gpen_engine.errors import (
    CheckpointCorrupt,
    CheckpointError,
    CheckpointUnknown,
    ImageError,
    OutOfMemory,
)
from gpen_engine.faces import ModelIdentity
from gpen_engine.precision import Precision

CPU = torch.device("cpu")
WEIGHTS = Path(__file__).parents[4] / "shared" / "weights"
REAL = WEIGHTS / "realesr-general-x4v3.pth"


class FakeNetwork:
    """Enlarges by repetition; warms the colours by `tint`; fails as it is told to."""

    multiple = 1

    def __init__(self, scale=4, *, tint=0.0, precisions=tuple(Precision), broken=(), room_px=10**6):
        self.scale, self.precisions, self.room_px = scale, precisions, room_px
        self.tint = torch.tensor([tint, 0.0, -tint]).reshape(1, 3, 1, 1)
        self.broken = set(broken)
        self.fast: list[bool] = []

    def __call__(self, x):
        if max(x.shape) > self.room_px:
            raise torch.OutOfMemoryError("tried to allocate")
        self.fast.append(torch.is_autocast_enabled("cpu"))
        if ("fp16" if self.fast[-1] else "fp32") in self.broken:
            return None
        answer = x.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)
        return (answer + self.tint).clamp(0, 1)


def make(network=None, **options):
    identity = ModelIdentity("fake", "0" * 64)
    return Background(network or FakeNetwork(), identity, device=CPU, **options)


def picture(height=50, width=70, dtype=np.uint8):
    top = np.iinfo(dtype).max
    return np.random.default_rng(4).integers(0, top, (height, width, 3), dtype, endpoint=True)


def gray(dtype=np.uint8):
    return np.repeat(picture(dtype=dtype)[:, :, :1], 3, axis=2)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_picture_comes_back_so_many_times_as_large_at_its_own_depth(scale, dtype):
    image = picture(dtype=dtype)

    answer = make().enhance(image, scale)

    assert answer.dtype == dtype
    np.testing.assert_array_equal(answer, image.repeat(scale, 0).repeat(scale, 1))


def test_what_the_network_makes_too_large_is_reduced_by_the_mean():
    class Checkered(FakeNetwork):
        def __call__(self, x):
            answer = super().__call__(x)
            answer[:, :, ::2, ::2] += 0.8
            return answer

    image = np.full((10, 10, 3), 51, np.uint8)  # 0.2

    assert (make(Checkered()).enhance(image, 2) == 102).all()  # 0.2 + 0.8 / 4


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_gray_stays_gray_and_its_brightness_stays(dtype):
    image = gray(dtype) // 2 + np.iinfo(dtype).max // 4

    answer = make(FakeNetwork(tint=0.1)).enhance(image, 1)

    np.testing.assert_array_equal(answer, image)


def test_a_single_coloured_pixel_keeps_a_picture_from_being_made_gray():
    image = np.full((600, 8, 3), 100, np.uint8)
    image[-1, -1, 0] = 101

    answer = make(FakeNetwork(tint=0.1)).enhance(image, 1)

    assert (answer[..., 0] > answer[..., 2]).all()


@pytest.mark.parametrize("wish", [Precision.FP16, Precision.BF16])
@pytest.mark.parametrize("supported", [True, False])
def test_the_faster_precision_is_used_where_the_network_has_it(supported, wish):
    network = FakeNetwork(precisions=[Precision.FP32] + supported * [wish])
    background = make(network, precision=wish)

    background.enhance(picture(), 4)

    assert background.precision is (wish if supported else Precision.FP32)
    assert network.fast == [supported]


def test_a_tile_that_fails_in_the_faster_precision_is_redone_in_float32_and_that_is_told():
    network, told = FakeNetwork(broken=["fp16"]), []
    background = make(network, precision=Precision.FP16)
    image = picture()

    answer = background.enhance(image, 1, on_float32=lambda: told.append("redone"))

    np.testing.assert_array_equal(answer, image)
    assert (network.fast, told) == ([True, False], ["redone"])
    background.enhance(image, 1)  # nobody has to listen


def test_a_network_that_fails_in_float32_too_is_a_clear_failure():
    with pytest.raises(CheckpointError, match="fake gives values that are no numbers"):
        make(FakeNetwork(broken=["fp16", "fp32"]), precision=Precision.FP16).enhance(picture(), 1)


def test_a_smaller_tile_is_told_and_kept_for_the_next_picture():
    network, told = FakeNetwork(scale=1, room_px=200), []
    background = make(network)
    image = picture(300, 300)

    np.testing.assert_array_equal(background.enhance(image, 1, on_shrink=told.append), image)
    tiles = len(network.fast)
    np.testing.assert_array_equal(background.enhance(image, 1), image)

    assert told == [190]
    assert background.tile_px == 190
    assert len(network.fast) == 2 * tiles


def test_no_room_even_for_a_small_tile_is_a_clear_failure():
    with pytest.raises(OutOfMemory):
        make(FakeNetwork(room_px=10)).enhance(picture(200, 200), 1)


@pytest.mark.parametrize("scale", [0, 3, 8])
def test_scales_other_than_1_2_and_4_are_refused(scale):
    with pytest.raises(ValueError, match="choose 1, 2 or 4"):
        make().enhance(picture(), scale)


def test_more_than_the_network_enlarges_is_refused_by_name():
    with pytest.raises(CheckpointError, match="fake makes pictures 2 times as large, not 4"):
        make(FakeNetwork(2)).enhance(picture(), 4)


def test_what_is_no_picture_is_refused():
    with pytest.raises(ImageError):
        make().enhance(np.zeros((4, 4), np.uint8), 1)


def save_tiny(path, scale=2):
    """Write a tiny network of the same family."""
    spandrel = module.load_network.__globals__["spandrel_module"]()
    network = spandrel.architectures.Compact.Compact(num_feat=4, num_conv=1, upscale=scale)
    save_file(network.state_dict(), path)
    return path


def test_a_users_own_file_is_loaded_and_known_by_its_hash(tmp_path):
    path = save_tiny(tmp_path / "mine.safetensors")

    background = load_background(CPU, path=path, tile_px=200)

    assert background.identity == ModelIdentity(f"own-{hash_file(path)[:8]}", hash_file(path))
    assert background.tile_px == 200
    assert background.enhance(picture(), 2).shape == (100, 140, 3)


def test_no_path_and_no_file_in_the_folder_is_no_background(tmp_path):
    assert load_background(CPU) is None
    assert load_background(CPU, folder=tmp_path) is None


def test_a_path_that_doesn_t_exist_is_an_error(tmp_path):
    with pytest.raises(CheckpointCorrupt, match="can't read the weights"):
        load_background(CPU, path=tmp_path / "gone.pth", folder=tmp_path)


def test_another_file_under_the_known_name_is_refused(tmp_path):
    save_tiny(tmp_path / "any.safetensors").rename(tmp_path / REAL.name)
    with pytest.raises(CheckpointCorrupt, match="expected"):
        load_background(CPU, folder=tmp_path)


def test_a_file_without_a_network_is_refused(tmp_path):
    path = tmp_path / "mine.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(CheckpointUnknown, match=r"mine\.safetensors"):
        load_background(CPU, path=path)


needs_real = pytest.mark.skipif(not REAL.is_file(), reason="../shared/weights isn't here")


@pytest.fixture(scope="module")
def real():
    return load_background(CPU, folder=WEIGHTS)


@needs_real
def test_the_known_weights_are_known_by_name(real):
    assert real.identity == ModelIdentity("realesr-general-x4v3", hash_file(REAL))


def steps(image):
    """Mean difference between neighbouring columns, and between neighbouring rows."""
    levels = image.astype(np.float64)
    columns = np.abs(np.diff(levels, axis=1)).mean(axis=(0, 2))
    rows = np.abs(np.diff(levels, axis=0)).mean(axis=(1, 2))
    return np.concatenate([columns, rows])


@needs_real
def test_real_esrgan_gives_the_same_picture_when_memory_runs_out_with_no_seam(
    real, astronaut, monkeypatch
):
    image = astronaut[60:150, 170:345]
    expected = real.enhance(image, 2)
    call, shapes = real._network, []

    def short_of_memory(x):
        shapes.append(tuple(x.shape[2:]))
        if max(x.shape) > 160:
            raise torch.OutOfMemoryError("tried to allocate")
        return call(x)

    short_of_memory.scale, short_of_memory.multiple = call.scale, call.multiple
    monkeypatch.setattr(real, "_network", short_of_memory)
    monkeypatch.setattr(real, "tile_px", real.tile_px)
    answer = real.enhance(image, 2)

    assert shapes == [(90, 175), (90, 128), (90, 128)]
    assert np.abs(answer.astype(int) - expected).max() <= 1
    assert (steps(answer) <= 1.05 * steps(expected)).all()


@needs_real
def test_real_esrgan_keeps_colour_brightness_and_place(real, astronaut):
    image = astronaut[90:186, 180:276]

    answer = real.enhance(image, 1).astype(float)

    difference = answer - image
    assert np.abs(difference.mean(axis=(0, 1))).max() < 2
    assert np.abs(difference).mean() < 5
