"""Every answer is checked; a face that fails in a lower precision is redone in float32."""

import pytest
import torch

from gpen_engine.errors import DeviceError, OutOfMemory
from gpen_engine.ladder import PrecisionLadder
from gpen_engine.precision import Precision
from tests.unit.gpen_engine.fakes import CPU, Negative, OutOfMemoryAbove, Overflowing


def climb(model: Negative, precision: Precision = Precision.FP16) -> PrecisionLadder:
    return PrecisionLadder(
        model.on(CPU, precision),
        device=CPU,
        in_float32=lambda device: model.on(device, Precision.FP32),
    )


def faces(*means: float) -> torch.Tensor:
    noise = torch.rand(len(means), 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.1
    return noise + torch.tensor(means)[:, None, None, None]


@pytest.mark.parametrize("precision", Precision)
def test_a_sound_answer_is_taken_in_any_precision(precision):
    x = faces(-0.5, -0.4)

    answers = climb(Overflowing(), precision)(x)

    assert [answer.precision for answer in answers] == [precision] * 2
    assert torch.equal(torch.stack([answer.face for answer in answers]), -x)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 0.25])
@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16])
def test_only_the_face_that_fails_is_redone_in_float32(precision, value):
    model = Overflowing(value=value)
    x = faces(-0.5, 0.5, -0.5)

    answers = climb(model, precision)(x)

    assert [answer.precision for answer in answers] == [precision, Precision.FP32, precision]
    assert torch.equal(torch.stack([answer.face for answer in answers]), -x)
    assert model.batches == [3, 1]


def test_a_face_that_fails_in_float32_too_has_no_answer():
    answers = climb(Overflowing(always=True))(faces(0.5, -0.5))

    assert answers[0].face is None
    assert answers[0].precision is Precision.FP32
    assert answers[1].face is not None


def test_a_failure_in_float32_is_not_tried_again():
    model = Overflowing(always=True)

    (answer,) = climb(model, Precision.FP32)(faces(0.5))

    assert answer.face is None
    assert model.batches == [1]


def test_no_room_for_a_batch_is_told_in_the_engines_words():
    with pytest.raises(OutOfMemory, match="3 faces of 32 px on cpu"):
        climb(OutOfMemoryAbove(2))(faces(0, 0, 0))


def test_the_cpus_allocator_is_understood_too():
    class Small(Negative):
        def answer(self, x, precision):
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate"
            )

    with pytest.raises(OutOfMemory):
        climb(Small())(faces(0))


def test_a_broken_device_is_no_lack_of_memory():
    class Broken(Negative):
        def answer(self, x, precision):
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(DeviceError, match="illegal memory access") as caught:
        climb(Broken())(faces(0))
    assert not isinstance(caught.value, OutOfMemory)


def test_any_other_error_is_a_mistake_of_ours_and_shows():
    class Wrong(Negative):
        def answer(self, x, precision):
            raise RuntimeError("shapes don't match")

    with pytest.raises(RuntimeError, match="shapes"):
        climb(Wrong())(faces(0))


def test_a_face_without_room_for_its_redo_is_redone_on_the_cpu_and_that_is_noted():
    model = Overflowing()
    built = []

    def in_float32(device):
        built.append(device.type)
        if device.type != "cpu":
            raise torch.OutOfMemoryError("no room for two networks")
        return model.on(device, Precision.FP32)

    class OnMeta(torch.Tensor):
        """A tensor that stays where it is, so that a card can be pretended."""

        def to(self, *_arguments, **_options):
            return torch.Tensor(self)

    ladder = PrecisionLadder(
        model.on(CPU, Precision.FP16), device=torch.device("cuda", 0), in_float32=in_float32
    )
    x = faces(0.5)

    (answer,) = ladder(x.as_subclass(OnMeta))

    assert built == ["cuda", "cpu"]
    assert torch.equal(answer.face.as_subclass(torch.Tensor), -x[0])
    assert answer.precision is Precision.FP32
    assert "the CPU did it" in answer.note


def test_a_redo_without_room_on_the_cpu_either_is_out_of_memory():
    class Full(Overflowing):
        def answer(self, x, precision):
            if precision is Precision.FP32:
                raise torch.OutOfMemoryError("full")
            return super().answer(x, precision)

    with pytest.raises(OutOfMemory):
        climb(Full())(faces(0.5))
