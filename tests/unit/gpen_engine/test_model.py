"""The network's shape and behaviour; its numbers are the goldens' matter."""

import pytest
import torch

from gpen_engine.model import GpenConfig, GpenGenerator

TINY = GpenConfig(32, channel_multiplier=1, narrow=0.03)


def make(config: GpenConfig, seed: int = 3) -> GpenGenerator:
    torch.manual_seed(seed)
    model = GpenGenerator(config).eval().requires_grad_(requires_grad=False)
    for name, value in model.named_parameters():
        if name.endswith("noise.weight"):
            value.fill_(0.5)
    return model


@pytest.fixture(scope="module")
def tiny() -> GpenGenerator:
    return make(TINY)


@pytest.fixture(scope="module")
def enlarging() -> GpenGenerator:
    """A super-resolution network, 16 to 64 px."""
    return make(GpenConfig(64, channel_multiplier=1, narrow=0.03, in_size=16))


@pytest.mark.parametrize("size", [8, 16, 64, 128])
def test_a_face_comes_out_as_large_as_it_went_in(size):
    model = make(GpenConfig(size, channel_multiplier=1, narrow=0.04))

    assert model(torch.zeros(2, 3, size, size)).shape == (2, 3, size, size)


def test_a_sample_does_not_depend_on_its_batch(tiny):
    x = torch.randn(5, 3, 32, 32)
    alone = torch.cat([tiny(sample[None]) for sample in x])

    together = tiny(x)

    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(tiny(x.flip(0)).flip(0), together, rtol=0, atol=1e-5)


def test_the_same_input_gives_the_same_bits(tiny):
    x = torch.randn(2, 3, 32, 32)

    assert torch.equal(tiny(x), tiny(x.clone()))


def test_the_output_depends_on_the_input(tiny):
    assert not torch.allclose(tiny(torch.zeros(1, 3, 32, 32)), tiny(torch.ones(1, 3, 32, 32)))


def test_the_input_is_not_changed(tiny):
    x = torch.randn(1, 3, 32, 32)
    before = x.clone()

    tiny(x)

    assert torch.equal(x, before)


def test_the_super_resolution_variant_enlarges(enlarging):
    assert enlarging(torch.zeros(2, 3, 16, 16)).shape == (2, 3, 64, 64)


def test_the_super_resolution_variant_draws_the_same_noise_each_time(enlarging):
    x = torch.randn(2, 3, 16, 16)
    first = enlarging(x)
    torch.manual_seed(99)
    torch.rand(7)

    assert torch.equal(enlarging(x), first)


def test_the_super_resolution_variant_gives_every_sample_the_same_noise(enlarging):
    x = torch.randn(1, 3, 16, 16).expand(3, -1, -1, -1)

    first, *others = enlarging(x)

    for other in others:
        torch.testing.assert_close(other, first, rtol=0, atol=1e-5)


def test_drawing_the_noise_leaves_the_global_generator_alone(enlarging):
    torch.manual_seed(1)
    before = torch.get_rng_state()

    enlarging(torch.zeros(1, 3, 16, 16))

    assert torch.equal(torch.get_rng_state(), before)


def test_an_in_size_equal_to_the_size_is_the_plain_network():
    plain, named = GpenConfig(32, 1, 0.03), GpenConfig(32, 1, 0.03, in_size=32)
    x = torch.randn(1, 3, 32, 32)

    assert torch.equal(make(plain)(x), make(named)(x))


@pytest.mark.parametrize(
    ("size", "in_size", "said"),
    [
        (0, None, "power of two.*not 0"),
        (4, None, "at least 8, not 4"),
        (-128, None, "not -128"),
        (100, None, "power of two of at least 8, not 100"),
        (128, 96, "not 96"),
        (64, 128, "in_size 128 is larger than size 64"),
    ],
)
def test_a_size_that_no_network_has_is_refused(size, in_size, said):
    with pytest.raises(ValueError, match=said):
        GpenConfig(size, in_size=in_size)


@pytest.mark.parametrize(("multiplier", "narrow"), [(1, 0.001), (1, 0), (0, 1), (2, -1)])
def test_widths_of_no_channel_at_all_are_refused(multiplier, narrow):
    with pytest.raises(ValueError, match="channel"):
        GpenConfig(128, channel_multiplier=multiplier, narrow=narrow)


@pytest.mark.parametrize(
    ("config", "widths"),
    [
        (GpenConfig(512), [512, 512, 512, 512, 512, 256, 128, 64]),
        (GpenConfig(256, 1, 0.5), [256, 256, 256, 256, 128, 64, 32]),
        (GpenConfig(2048), [512, 512, 512, 512, 512, 256, 128, 64, 32, 16]),
    ],
)
def test_the_levels_are_as_wide_as_published(config, widths):
    assert [config.channels(4 << level) for level in range(len(widths))] == widths
