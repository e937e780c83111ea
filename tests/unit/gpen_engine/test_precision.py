"""Which precision for which device, and whether an output can be used."""

import pytest
import torch

from gpen_engine.errors import DeviceError
from gpen_engine.precision import Precision, choose, is_sound

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        ((6, 1), Precision.FP32),
        ((7, 0), Precision.FP16),
        ((7, 5), Precision.FP16),
        ((9, 0), Precision.FP16),
    ],
    ids=["Pascal", "Volta", "Turing", "Hopper"],
)
def test_a_card_computes_in_float16_where_that_is_fast(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)

    assert choose(CUDA) is expected


def test_every_cpu_computes_in_float32_so_that_all_give_the_same_picture():
    assert choose(CPU) is Precision.FP32


@pytest.mark.parametrize("precision", Precision)
def test_a_wish_is_followed_without_asking_the_device(precision):
    assert choose(CPU, precision.value) is precision
    assert choose(CUDA, precision.value) is precision


def test_a_wish_for_an_unknown_precision_is_refused():
    with pytest.raises(DeviceError, match=r"fp64.* auto, fp32, fp16, bf16"):
        choose(CPU, "fp64")


def test_a_precision_knows_its_tensors():
    dtypes = [precision.dtype for precision in Precision]

    assert dtypes == [torch.float32, torch.float16, torch.bfloat16]


def test_each_sample_is_judged_alone():
    output = torch.randn(5, 3, 4, 4)
    output[1, 0, 0, 0] = torch.nan
    output[2, 2, 3, 3] = torch.inf
    output[3, 1, 1, 1] = -torch.inf
    output[4] = 0.25

    assert is_sound(output).tolist() == [True, False, False, False, False]


def test_float16_outputs_are_judged_too():
    assert is_sound(torch.randn(2, 3, 4, 4).half()).tolist() == [True, True]
