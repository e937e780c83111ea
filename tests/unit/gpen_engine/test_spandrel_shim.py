"""Networks come out of spandrel with what they state of themselves, or with a reason why not."""

import subprocess
import sys

import pytest
import torch

from gpen_engine.errors import CheckpointMismatch, CheckpointUnknown
from gpen_engine.precision import Precision
from gpen_engine.spandrel_shim import load_network, spandrel_module

CPU = torch.device("cpu")


def compact_tensors(scale=4, channels=3):
    """Tensors of a tiny network like realesr-general-x4v3, in float16 as files have them."""
    spandrel = spandrel_module()
    network = spandrel.architectures.Compact.Compact(
        num_in_ch=channels, num_out_ch=channels, num_feat=4, num_conv=1, upscale=scale
    )
    with torch.no_grad():
        for tensor in network.parameters():
            tensor.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    return {key: value.half() for key, value in network.state_dict().items()}


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_a_network_is_read_off_the_tensors_of_its_file(scale):
    network = load_network(compact_tensors(scale), name="x.pth", device=CPU)

    answer = network(torch.rand(1, 3, 6, 5))

    assert (network.scale, network.multiple) == (scale, 1)
    assert network.precisions == set(Precision)
    assert answer.shape == (1, 3, 6 * scale, 5 * scale)
    assert answer.dtype == torch.float32
    assert answer.min() >= 0
    assert answer.max() <= 1


@pytest.mark.parametrize("value", [torch.inf, torch.nan])
def test_an_answer_that_is_no_number_is_told_and_not_clipped_to_white(value):
    tensors = compact_tensors()
    tensors["body.4.bias"][0] = value
    network = load_network(tensors, name="x.pth", device=CPU)

    assert network(torch.rand(1, 3, 6, 5)) is None


def test_an_answer_after_a_failed_one_is_good_again():
    network = load_network(compact_tensors(), name="x.pth", device=CPU)

    assert network(torch.full((1, 3, 6, 5), torch.inf)) is None
    assert network(torch.rand(1, 3, 6, 5)) is not None


def test_tensors_of_no_known_network_are_refused_by_name():
    with pytest.raises(CheckpointUnknown, match=r"mine\.pth holds no network that spandrel knows"):
        load_network({"weight": torch.zeros(3)}, name="mine.pth", device=CPU)


def test_tensors_that_don_t_fit_their_network_are_refused():
    tensors = compact_tensors()
    tensors["body.2.weight"] = torch.zeros(5, 5, 3, 3)
    with pytest.raises(CheckpointMismatch, match=r"mine\.pth doesn't fit"):
        load_network(tensors, name="mine.pth", device=CPU)


def test_a_network_for_gray_pictures_is_refused():
    with pytest.raises(CheckpointUnknown, match="RGB"):
        load_network(compact_tensors(channels=1), name="gray.pth", device=CPU)


def test_a_new_process_imports_spandrel_with_warnings_as_errors():
    code = "from gpen_engine.spandrel_shim import spandrel_module as get; print(get().__name__)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout.strip()) == (0, "spandrel"), done.stderr
