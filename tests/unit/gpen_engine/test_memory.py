"""A plan that fits the memory there is, and what is learned when it didn't."""

import types

import pytest
import torch

from gpen_engine import memory
from gpen_engine.checkpoint import LoadedGenerator
from gpen_engine.errors import DeviceError, OutOfMemory
from gpen_engine.memory import Budget, MemoryPlanner, measure_budget
from gpen_engine.model import GpenConfig, GpenGenerator
from gpen_engine.networks import GpenModel
from gpen_engine.precision import Precision
from tests.unit.gpen_engine.fakes import CPU, Negative, planner_with

CUDA = torch.device("cuda", 0)
MIB = 1 << 20


class Sized(Negative):
    """Takes so much memory for its weights and for each face, half of it in float16."""

    def __init__(self, weights: int, face: int) -> None:
        super().__init__()
        self.sizes = (weights, face)

    def on(self, device, precision):
        network = super().on(device, precision)
        share = 1 if precision is Precision.FP32 else 2
        weights, face = (size // share for size in self.sizes)
        network.weights_bytes = weights
        network.activation_bytes = lambda batch: batch * face
        return network


@pytest.fixture
def card(monkeypatch):
    """Pretend that there is a card; returns what was asked of it."""

    def make(
        *, free: int = 8 << 30, total: int = 8 << 30, capability=(7, 5), nvml: int | None = None
    ):
        asked = types.SimpleNamespace(fraction=None, emptied=0)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (free, total))
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
        monkeypatch.setattr(memory, "_nvml_free_bytes", lambda _device: nvml)

        def limit(share, _device):
            asked.fraction = share

        def empty():
            asked.emptied += 1

        monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", limit)
        monkeypatch.setattr(torch.cuda, "empty_cache", empty)
        return asked

    return make


def test_the_machines_own_memory_is_measured():
    budget = measure_budget(CPU)

    assert 0 < budget.free_bytes <= budget.total_bytes
    assert budget.source == "host"


def test_a_limit_below_what_is_free_counts():
    assert measure_budget(CPU, limit_bytes=100 * MIB).free_bytes == 100 * MIB
    assert measure_budget(CPU, limit_bytes=100 * MIB).source == "limit"
    assert measure_budget(CPU, limit_bytes=1 << 60).source == "host"


def test_what_nvml_sees_counts_where_it_is_less(card):
    card(free=8 << 30, nvml=2 << 30)
    assert (measure_budget(CUDA).free_bytes, measure_budget(CUDA).source) == (2 << 30, "NVML")

    card(free=1 << 30, nvml=2 << 30)
    assert (measure_budget(CUDA).free_bytes, measure_budget(CUDA).source) == (1 << 30, "CUDA")

    card(free=1 << 30, nvml=None)
    assert measure_budget(CUDA).source == "CUDA"


def test_no_driver_for_nvml_is_no_error(monkeypatch):
    properties = types.SimpleNamespace(uuid="0000")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: properties)

    assert memory._nvml_free_bytes(CUDA) is None


def test_a_limit_on_a_card_is_enforced(card):
    asked = card(free=8 << 30, total=8 << 30)

    MemoryPlanner(CUDA, limit_bytes=2 << 30)

    assert asked.fraction == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("room", "batch"), [(16 << 30, 4), (2000 * MIB, 4), (1200 * MIB, 2), (900 * MIB, 1)]
)
def test_the_batch_fits_the_room(room, batch):
    planner = planner_with(room)

    _, plan = planner.plan(Sized(200 * MIB, 300 * MIB), "fp32")

    assert plan.batch == planner.batch == batch


def test_a_card_takes_larger_batches(card):
    card(free=64 << 30, total=64 << 30)
    planner = MemoryPlanner(CUDA)

    _, plan = planner.plan(Sized(200 * MIB, 300 * MIB))

    assert (plan.batch, plan.precision) == (16, Precision.FP16)


def test_a_card_without_fast_float16_takes_it_only_to_fit(card):
    model = Sized(300 * MIB, 500 * MIB)
    card(free=4 << 30, capability=(6, 1))
    assert MemoryPlanner(CUDA).plan(model)[1].precision is Precision.FP32

    card(free=800 * MIB, capability=(6, 1))
    assert MemoryPlanner(CUDA).plan(model)[1].precision is Precision.FP16


def test_a_wish_for_float32_is_not_quietly_changed(card):
    card(free=800 * MIB, capability=(6, 1))

    with pytest.raises(OutOfMemory, match="one face of 32 px needs"):
        MemoryPlanner(CUDA).plan(Sized(300 * MIB, 500 * MIB), "fp32")


def test_too_little_memory_is_said_before_any_work():
    with pytest.raises(OutOfMemory, match="can be used"):
        planner_with(100 * MIB).plan(Negative())


def test_an_unknown_precision_is_refused():
    with pytest.raises(DeviceError, match="fp8"):
        planner_with().plan(Negative(), "fp8")


@pytest.mark.parametrize(("wish", "batch"), [("fp32", 1), ("fp16", 2)])
def test_2_gb_are_enough_for_the_512_px_network(wish, batch):
    with torch.device("meta"):
        shape = GpenGenerator(GpenConfig(512))
    model = shape.to_empty(device="cpu")
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    gpen = GpenModel(LoadedGenerator(model.eval(), "0" * 64, None), name="gpen-bfr-512")

    _, plan = planner_with(2_000_000_000).plan(gpen, wish)

    assert plan.batch >= batch


def test_tiles_get_smaller_with_the_room():
    sides = [
        planner_with(room << 20).plan(Negative())[1].tile_px for room in (16_000, 4_000, 1_500, 400)
    ]

    assert sides == sorted(sides, reverse=True)
    assert sides[0] > sides[-1] >= 128


def test_what_did_not_fit_is_remembered():
    planner = planner_with()
    planner.plan(Negative())

    assert planner.shrink(4)
    assert planner.batch == 2
    assert planner.shrink(2)
    assert planner.batch == 1
    assert not planner.shrink(1)


def test_a_late_report_does_not_raise_the_batch_again():
    planner = planner_with()
    planner.plan(Negative())
    planner.shrink(2)

    planner.shrink(4)

    assert planner.batch == 1


def test_shrinking_hands_unused_memory_back(card):
    asked = card()
    planner = MemoryPlanner(CUDA, measure=lambda _device, **_: Budget(8 << 30, 8 << 30, "x"))
    planner.plan(Negative())

    planner.shrink(8)

    assert asked.emptied == 1


def test_float16_is_tried_when_not_even_the_weights_fit_in_float32(card):
    card(free=800 * MIB, capability=(6, 1))

    class Large(Sized):
        def on(self, device, precision):
            if precision is Precision.FP32:
                raise torch.OutOfMemoryError("no room for the weights")
            return super().on(device, precision)

    assert MemoryPlanner(CUDA).plan(Large(300 * MIB, 200 * MIB))[1].precision is Precision.FP16


def test_the_limit_of_a_container_counts(tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text(f"{300 * MIB}\n")
    (tmp_path / "memory.current").write_text(f"{100 * MIB}\n")
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    assert measure_budget(CPU).free_bytes == 200 * MIB

    (tmp_path / "memory.max").write_text("max\n")
    assert measure_budget(CPU).free_bytes > 200 * MIB
