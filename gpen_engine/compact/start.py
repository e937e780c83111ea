"""Where training begins: the shape of gpen-compact, and weights that return the input.

In: a side in pixels, a network. Out: the network's shape; the network, changed in place.
"""

import torch

from gpen_engine.model import GpenConfig, GpenGenerator

_WIDTH = 0.125
_PAIR = 2.08
"""What two leaky ReLUs of slope 0.2 and gain sqrt(2) make of a colour and its negative: their
difference is 2 + 2 * 0.04 times the colour."""


def compact_config(size: int) -> GpenConfig:
    """Return the shape of gpen-compact for faces of `size` pixels."""
    return GpenConfig(size=size, channel_multiplier=2, narrow=_WIDTH)


def start_from_identity(model: GpenGenerator) -> None:
    """Set the weights so that the untrained network returns its input.

    The first encoder level carries each colour and its negative; the last level's noise half hands
    them to the last ToRGB, where the difference of the pair undoes both leaky ReLUs. What is
    learned is then only the restoration.
    """
    generator = model.generator
    with torch.no_grad():
        entry = model.get_parameter("ecd0.0.0.weight")
        entry[:6].zero_()
        for colour in range(3):
            entry[2 * colour, colour] = 3**0.5
            entry[2 * colour + 1, colour] = -(3**0.5)
        for name, parameter in generator.named_parameters():
            if name.startswith("to_rgb") and name.endswith("conv.weight"):
                parameter.zero_()
            if name.endswith("noise.weight"):
                parameter.fill_(1.0)
        last = len(generator.to_rgbs) - 1
        generator.get_parameter(f"to_rgbs.{last}.conv.modulation.weight").zero_()
        exit_ = generator.get_parameter(f"to_rgbs.{last}.conv.weight")
        width = exit_.shape[2]
        gain = width**0.5 / _PAIR
        for colour in range(3):
            exit_[0, colour, width // 2 + 2 * colour] = gain
            exit_[0, colour, width // 2 + 2 * colour + 1] = -gain
