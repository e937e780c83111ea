"""How gpen-compact learns: where it starts, a step of the optimiser."""

import pytest
import torch

from gpen_engine.compact.optimise import Optimiser
from gpen_engine.compact.start import compact_config, start_from_identity
from gpen_engine.model import GpenConfig, GpenGenerator

TINY = GpenConfig(32, 1, 16 / 512)


# Where it starts.


@pytest.mark.parametrize("config", [compact_config(128), compact_config(256), TINY], ids=str)
def test_the_network_starts_by_returning_its_input(config):
    torch.manual_seed(2)
    model = GpenGenerator(config)
    start_from_identity(model)
    x = torch.rand(2, 3, config.size, config.size) * 2 - 1

    with torch.no_grad():
        torch.testing.assert_close(model(x), x, rtol=0, atol=1e-4)


# How it steps.


def test_a_step_moves_every_weight_against_its_gradient():
    torch.manual_seed(3)
    model = GpenGenerator(TINY)
    start_from_identity(model)
    optimiser = Optimiser(model)
    before = {name: value.clone() for name, value in model.named_parameters()}
    gradients = {name: torch.randn_like(value) for name, value in before.items()}
    for name, parameter in model.named_parameters():
        parameter.grad = gradients[name].clone()

    optimiser.step(0.5)

    for name, parameter in model.named_parameters():
        assert parameter.grad is None
        assert ((parameter - before[name]) * gradients[name]).sum() < 0, name


def test_a_step_is_as_large_for_a_convolution_whatever_its_gradient():
    torch.manual_seed(3)
    model = GpenGenerator(TINY)
    optimiser = Optimiser(model)
    weight = model.get_parameter("generator.convs.0.conv.weight")
    before = weight.detach().clone()
    for parameter in model.parameters():
        parameter.grad = 1e-4 * torch.randn_like(parameter)

    optimiser.step(1.0)

    moved = (weight.detach() - before).square().mean().sqrt()
    assert float(moved) == pytest.approx(0.01, rel=0.3)
