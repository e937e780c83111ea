"""`load`: devices, precisions, and what comes out."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

import gpen_engine
from gpen_engine import (
    CheckpointUnknown,
    DeviceError,
    OutOfMemory,
    TermsNotAccepted,
    build,
    weights,
)
from gpen_engine.devices import instructions_of, pick_device, threads_of, use_threads
from gpen_engine.faces import ModelIdentity
from gpen_engine.precision import Precision
from gpen_engine.weights import COMPACT, COMPACT_FILE, How, accept


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


@pytest.mark.usefixtures("_light")
def test_a_limit_that_holds_no_face_is_refused_before_any_work():
    with pytest.raises(OutOfMemory, match="one face of 256 px needs"):
        gpen_engine.load(device="cpu", vram_limit_bytes=100 << 20)


@pytest.mark.usefixtures("_light")
def test_the_terms_of_the_weights_are_part_of_the_identity(tmp_path, engine):
    assert engine.identity.terms["weights"].startswith("Apache-2.0")
    own = tmp_path / "mine.safetensors"
    tensors = load_file(COMPACT_FILE)
    tensors["generator.to_rgb1.bias"] += 0.5
    save_file(tensors, own)

    restorer = gpen_engine.load(own, device="cpu")

    assert restorer.identity.weights == f"own-{restorer.identity.weights_sha256[:8]}"
    assert "unknown" in restorer.identity.terms["weights"]


@pytest.mark.usefixtures("_light")
@pytest.mark.parametrize("name", ["mine.safetensors", "gpen-bfr-512.safetensors"])
def test_known_weights_have_their_name_whatever_their_file_is_called(tmp_path, name):
    (tmp_path / name).symlink_to(COMPACT_FILE)
    assert gpen_engine.load(tmp_path / name, device="cpu").identity.weights == "compact"


@pytest.mark.usefixtures("_light")
def test_on_a_cpu_threads_and_instructions_are_part_of_the_identity():
    before = torch.get_num_threads()
    use_threads(before + 1)
    try:
        identity = gpen_engine.load(device="cpu").identity
    finally:
        use_threads(before)
    assert identity.threads == before + 1
    assert identity.instructions == torch.backends.cpu.get_cpu_capability()


def test_on_a_card_no_threads_decide_anything():
    card = torch.device("cuda")
    assert (threads_of(card), instructions_of(card)) == (None, None)


@pytest.mark.usefixtures("_light")
def test_weights_with_terms_say_how_these_were_accepted(tmp_path, monkeypatch):
    asking = replace(COMPACT, name="asking", ask=True, terms="for tests only")
    monkeypatch.setattr(weights, "known_by_hash", lambda _sha256: asking)
    monkeypatch.setattr(build, "known_by_hash", lambda _sha256: asking)
    with pytest.raises(TermsNotAccepted):
        gpen_engine.load(device="cpu", folder=tmp_path)

    now = gpen_engine.load(device="cpu", folder=tmp_path, accept_terms=True)
    accept(tmp_path, asking, How.FLAG)
    later = gpen_engine.load(device="cpu", folder=tmp_path)

    assert now.identity.terms["weights"] == "for tests only; accepted: for this process"
    assert later.identity.terms["weights"].startswith("for tests only; accepted: flag at 20")


@pytest.mark.usefixtures("_light")
def test_the_terms_of_a_background_have_to_be_accepted_too(tmp_path, monkeypatch):
    asking = replace(COMPACT, name="scenery", sha256="b" * 64, ask=True, terms="for tests only")
    known = {asking.sha256: asking}
    monkeypatch.setattr(weights, "known_by_hash", known.get)
    scenery = SimpleNamespace(identity=ModelIdentity("scenery", "b" * 64), precision=Precision.FP32)
    monkeypatch.setattr(build, "load_background", lambda *_, **__: scenery)

    with pytest.raises(TermsNotAccepted, match="scenery"):
        gpen_engine.load(device="cpu", folder=tmp_path)

    restorer = gpen_engine.load(device="cpu", folder=tmp_path, accept_terms="for tests only")
    assert restorer.identity.background == scenery.identity


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_card_gives_what_the_cpu_gives(engine, astronaut):
    fast = gpen_engine.load(device="cuda")

    image = fast.restore(astronaut).image

    assert fast.identity.device.startswith("cuda")
    assert abs(image.astype(int) - engine.restore(astronaut).image).mean() < 1.0
