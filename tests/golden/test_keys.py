"""The names, order, shapes and dtypes of a checkpoint's tensors, for every size of the family."""

import pytest
import torch

from gpen_engine.model import GpenConfig, GpenGenerator
from tests.golden.recipe import HERE, SHARED, read_keys, shape_of

COMMITTED = ("g64_cm1_n025", "sr64to128_cm1_n025")
OTHERS = (
    "g128_cm1_n025",
    "g256_cm1_n05",
    "g512_cm2_n1",
    "k1024_cm2_n1",
    "k2048_cm2_n1",
    "ksr512to1024_cm2_n1",
)


def empty(config: GpenConfig) -> GpenGenerator:
    """Make a network that has shapes only, which takes no memory."""
    with torch.device("meta"):
        return GpenGenerator(config)


def check_keys(name, folder):
    keys = read_keys(name, folder)
    model = empty(shape_of(keys["config"]))

    found = [
        [key, list(value.shape), str(value.dtype).removeprefix("torch.")]
        for key, value in model.state_dict().items()
    ]

    assert found == keys["state_dict"]
    assert sorted(key for key, _ in model.named_parameters()) == sorted(keys["parameters"])
    assert sorted(key for key, _ in model.named_buffers()) == sorted(keys["buffers"])


@pytest.mark.parametrize("name", COMMITTED)
def test_the_tensors_are_those_of_the_committed_key_lists(name):
    check_keys(name, HERE)


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/gpen/goldens isn't beside the project")
@pytest.mark.parametrize("name", OTHERS)
def test_the_tensors_are_those_of_every_other_key_list_at_hand(name):
    check_keys(name, SHARED)


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/gpen/goldens isn't beside the project")
def test_no_generator_key_list_at_hand_is_left_out():
    at_hand = {path.stem for path in (SHARED / "keys").glob("*.json")}
    of_other_networks = {"parsenet", "realesrnet_x1", "realesrnet_x2", "realesrnet_x4"}

    assert at_hand - of_other_networks == {*COMMITTED, *OTHERS}


@pytest.mark.parametrize(
    ("config", "tensors", "parameters", "kernels"),
    [
        (GpenConfig(256, channel_multiplier=1, narrow=0.5), 144, 18_879_010, 18),
        (GpenConfig(512), 163, 71_005_223, 21),
        (GpenConfig(1024), 182, 71_210_540, 24),
        (GpenConfig(2048), 201, 71_294_769, 27),
        (GpenConfig(1024, in_size=512), 179, 71_192_172, 23),
    ],
    ids=["BFR-256", "BFR-512", "BFR-1024", "BFR-2048", "SR-512-to-1024"],
)
def test_the_published_sizes_have_the_published_counts(config, tensors, parameters, kernels):
    model = empty(config)

    assert len(model.state_dict()) == tensors
    assert sum(value.numel() for value in model.parameters()) == parameters
    assert len(list(model.buffers())) == kernels


@pytest.mark.parametrize(
    ("config", "shapes"),
    [
        (
            GpenConfig(256, channel_multiplier=1, narrow=0.5),
            {
                "generator.input.input": (1, 256, 4, 4),
                "generator.convs.6.conv.weight": (1, 128, 512, 3, 3),
                "generator.convs.11.conv.weight": (1, 32, 64, 3, 3),
                "ecd0.0.0.weight": (32, 3, 1, 1),
                "final_linear.0.weight": (512, 4096),
            },
        ),
        (
            GpenConfig(512),
            {
                "generator.input.input": (1, 512, 4, 4),
                "generator.convs.8.conv.weight": (1, 256, 1024, 3, 3),
                "generator.convs.13.conv.weight": (1, 64, 128, 3, 3),
                "ecd0.0.0.weight": (64, 3, 1, 1),
                "final_linear.0.weight": (512, 8192),
            },
        ),
    ],
    ids=["BFR-256", "BFR-512"],
)
def test_the_telling_tensors_have_the_published_shapes(config, shapes):
    state = empty(config).state_dict()

    assert {key: tuple(state[key].shape) for key in shapes} == shapes


def test_the_kernels_sum_to_one_in_the_encoder_and_to_four_in_the_generator():
    state = GpenGenerator(GpenConfig(16, channel_multiplier=1, narrow=0.05)).state_dict()
    sums = {key: float(value.sum()) for key, value in state.items() if key.endswith(".kernel")}

    assert sums == {key: 1.0 if key.startswith("ecd") else 4.0 for key in sums}
    assert len(sums) == 6
