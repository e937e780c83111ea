"""`load`: devices, precisions, and what comes out."""

import pytest
import torch

import gpen_engine
from gpen_engine import CheckpointUnknown, DeviceError, build
from gpen_engine.build import pick_device
from gpen_engine.precision import Precision


@pytest.fixture
def _light(monkeypatch, detector):
    """Load no second detector."""
    monkeypatch.setattr(build, "load_detector", lambda *_, **__: detector)


def test_auto_takes_the_cpu_where_there_is_nothing_else(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    assert pick_device("auto") == torch.device("cpu")


def test_auto_takes_the_card_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    assert pick_device("auto").type == "cuda"


@pytest.mark.parametrize(
    "wish", ["cuda:99", "banana", "", "cuda:x", "mps", "meta", "hpu", "privateuseone"]
)
def test_a_device_that_is_not_there_or_can_not_compute_is_refused(wish):
    if wish == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has that device")

    with pytest.raises(DeviceError, match=f"device '{wish}' can't be used") as caught:
        pick_device(wish)

    assert len(str(caught.value)) < 400


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_load_says_that_there_is_no_card():
    with pytest.raises(DeviceError, match="device 'cuda' can't be used"):
        gpen_engine.load(device="cuda")


@pytest.mark.usefixtures("_light")
@pytest.mark.parametrize(
    ("wish", "precision"),
    [("auto", Precision.FP32), ("fp32", Precision.FP32), ("fp16", Precision.FP16)],
)
def test_the_precision_is_the_wished_one_and_said(wish, precision):
    restorer = gpen_engine.load(device="cpu", precision=wish)

    assert restorer.identity.precision is precision


def test_weights_of_another_network_are_refused_before_anything_else_loads(tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"conv.weight": torch.zeros(1)}, path)

    with pytest.raises(CheckpointUnknown):
        gpen_engine.load(path, device="banana")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_card_gives_what_the_cpu_gives(engine, astronaut):
    fast = gpen_engine.load(device="cuda")

    image = fast.restore(astronaut).image

    assert fast.identity.device.startswith("cuda")
    assert abs(image.astype(int) - engine.restore(astronaut).image).mean() < 1.0
