import importlib
import importlib.util
import sys

import pytest
import torch
from torch import nn

from gpen_engine import spandrel_faces
from gpen_engine.errors import (
    CheckpointCorrupt,
    CheckpointError,
    CheckpointMismatch,
    CheckpointUnknown,
)
from gpen_engine.faces import Template
from gpen_engine.precision import Precision
from gpen_engine.restorers import WeightsFile
from gpen_engine.spandrel_faces import SpandrelModel, codeformer, gfpgan, run_gfpgan
from gpen_engine.spandrel_shim import spandrel_module

CPU = torch.device("cpu")
META = torch.device("meta")  # shapes without numbers: both networks take half a minute on a CPU


def network_of(name):
    """A class of spandrel's, importable once spandrel itself is."""
    spandrel_module()
    if name == "CodeFormer":
        if importlib.util.find_spec("spandrel_extra_arches") is None:
            pytest.skip("the extra `codeformer`, under a non-commercial licence, isn't installed")
        spandrel_faces._extra_architectures()
    package = "spandrel" if name == "GFPGAN" else "spandrel_extra_arches"
    return getattr(importlib.import_module(f"{package}.architectures.{name}"), name)


def save(path, network, *, wrap="params_ema", change=None):
    """Write a network's tensors at full size in a few kilobytes: every one is a single number."""
    with torch.device("meta"):
        tensors = network().state_dict()
    tensors = {key: torch.full((1,), 0.5).expand(value.shape) for key, value in tensors.items()}
    if change:
        change(tensors)
    torch.save({wrap: tensors} if wrap else tensors, path)
    return WeightsFile(path, "a" * 64, path.name)


@pytest.mark.parametrize(
    ("load", "name", "file_bytes"),
    [(gfpgan, "GFPGAN", 348_632_874), (codeformer, "CodeFormer", 376_637_898)],
)
def test_a_published_file_becomes_a_face_model(tmp_path, load, name, file_bytes):
    model = load(save(tmp_path / "face.pth", network_of(name)))
    assert (model.name, model.sha256) == ("face.pth", "a" * 64)
    assert (model.template, model.input_size, model.size) == (Template.FFHQ, 512, 512)
    network = model.on(META, Precision.FP32)
    assert network(torch.empty(2, 3, 512, 512, device=META)).shape == (2, 3, 512, 512)
    # The published file holds these tensors and a few bytes more for their names.
    assert 0 < file_bytes - network.weights_bytes < 256_000


@pytest.mark.parametrize(("load", "name"), [(gfpgan, "GFPGAN"), (codeformer, "CodeFormer")])
def test_what_would_overflow_in_half_precision_computes_in_float32(tmp_path, load, name):
    model = load(save(tmp_path / "face.pth", network_of(name), wrap=None))
    assert model.on(CPU, Precision.FP16).precision is Precision.FP32
    assert model.on(CPU, Precision.BF16).precision is Precision.BF16


def test_half_precision_is_used_where_spandrel_says_that_it_works(tmp_path, monkeypatch):
    file = save(tmp_path / "face.pth", network_of("GFPGAN"))
    architecture = spandrel_module().MAIN_REGISTRY["GFPGAN"].architecture
    original = type(architecture).load

    def load(self, tensors):
        descriptor = original(self, tensors)
        descriptor.supports_half, descriptor.supports_bfloat16 = True, False
        return descriptor

    monkeypatch.setattr(type(architecture), "load", load)
    model = gfpgan(file)
    assert model.on(CPU, Precision.FP16).precision is Precision.FP16
    assert model.on(CPU, Precision.BF16).precision is Precision.FP32


def test_the_weights_are_the_files(tmp_path):
    def mark(tensors):
        tensors["conv_body_first.bias"] = torch.arange(32, dtype=torch.float16)

    model = gfpgan(save(tmp_path / "face.pth", network_of("GFPGAN"), change=mark))
    loaded = model._module.get_parameter("conv_body_first.bias")
    assert torch.equal(loaded, torch.arange(32, dtype=torch.float32))
    assert not any(tensor.is_meta for tensor in model._module.state_dict().values())


@pytest.mark.parametrize(("load", "name"), [(gfpgan, "GFPGAN"), (codeformer, "CodeFormer")])
def test_another_networks_file_is_refused(tmp_path, load, name):
    network_of(name)
    torch.save({"weight": torch.ones(2)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointUnknown, match=rf"other\.pth holds no {name}.*weight"):
        load(WeightsFile(tmp_path / "other.pth", "a" * 64, "other"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: tensors.pop("final_linear.bias"), 'Missing.*"final_linear.bias"'),
        (lambda tensors: tensors.update(more=torch.ones(1)), 'Unexpected.*"more"'),
        (lambda tensors: tensors.update({"final_linear.bias": torch.ones(3)}), "size mismatch"),
    ],
)
def test_a_file_that_was_cut_is_refused(tmp_path, change, said):
    file = save(tmp_path / "cut.pth", network_of("GFPGAN"), change=change)
    with pytest.raises(CheckpointMismatch, match=rf"cut\.pth looks like GFPGAN.*{said}"):
        gfpgan(file)


def test_a_codeformer_without_its_sizes_is_refused(tmp_path):
    def drop(tensors):
        tensors["position_emb"] = torch.ones(256)

    file = save(tmp_path / "cut.pth", network_of("CodeFormer"), change=drop)
    with pytest.raises(CheckpointMismatch, match="looks like CodeFormer"):
        codeformer(file)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "torn.pth").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(CheckpointCorrupt, match=r"torn\.pth"):
        gfpgan(WeightsFile(tmp_path / "torn.pth", "a" * 64, "torn"))


def test_codeformer_says_how_to_install_its_network(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel_extra_arches", None)  # as if it weren't there
    with pytest.raises(CheckpointError, match=r"non-commercial.*'\.\[codeformer\]'"):
        codeformer(WeightsFile(tmp_path / "face.pth", "a" * 64, "face"))


@pytest.fixture
def small_gfpgan():
    """The real network at 32 px, with noise that would show."""
    torch.manual_seed(0)
    module = network_of("GFPGAN")(out_size=32, narrow=1 / 16, channel_multiplier=1)
    for key, parameter in module.named_parameters():
        if key.startswith("stylegan_decoder.style_conv") and parameter.shape == (1,):
            parameter.data.fill_(0.5)
    weights = WeightsFile(None, "a" * 64, "small")
    return SpandrelModel(module, run_gfpgan, weights, precisions=frozenset(Precision), size=32)


def test_the_same_face_gets_the_same_answer_in_any_company(small_gfpgan):
    network = small_gfpgan.on(CPU, Precision.FP32)
    faces = torch.rand(3, 3, 32, 32) * 2 - 1
    together = network(faces)
    assert torch.equal(together, network(faces))
    for index in range(3):
        assert torch.equal(together[index], network(faces[index : index + 1])[0])
    assert network(faces[:0]).shape == (0, 3, 32, 32)


def test_answers_are_float32_and_not_clipped(small_gfpgan):
    face = torch.rand(1, 3, 32, 32) * 2 - 1
    exact = small_gfpgan.on(CPU, Precision.FP32)(face)
    coarse = small_gfpgan.on(CPU, Precision.BF16)(face)
    assert exact.dtype == coarse.dtype == torch.float32
    assert exact.abs().max() > 1 or exact.min() < 0
    assert 0 < (exact - coarse).abs().max() < 0.1 * exact.abs().max()


def test_codeformer_is_run_with_the_fidelity_asked_for(tmp_path):
    class Weighted(nn.Module):
        def forward(self, x, weight):
            return x * weight, None

    file = save(tmp_path / "face.pth", network_of("CodeFormer"))
    face = torch.ones(1, 3, 8, 8)
    for chosen, expected, name in (
        ({}, 0.7, "face.pth"),
        ({"fidelity": 0.25}, 0.25, "face.pth fidelity 0.25"),
    ):
        model = codeformer(file, **chosen)
        model._module = Weighted()
        assert torch.equal(model.on(CPU, Precision.FP32)(face), face * expected)
        assert model.name == name


def test_networks_of_one_device_share_their_weights_and_free_them_together(small_gfpgan):
    first = small_gfpgan.on(META, Precision.FP32)
    second = small_gfpgan.on(META, Precision.BF16)
    assert first._module is second._module
    assert small_gfpgan.on(CPU, Precision.FP32)._module is not first._module
    assert not any(tensor.is_meta for tensor in small_gfpgan._module.parameters())
    assert len(small_gfpgan._placed) == 1
    del first, second
    assert len(small_gfpgan._placed) == 0


def test_the_memory_asked_for_holds_one_pass_and_all_answers(tmp_path):
    network = gfpgan(save(tmp_path / "face.pth", network_of("GFPGAN"))).on(META, Precision.FP32)
    one, many = network.activation_bytes(1), network.activation_bytes(9)
    assert one > 561 << 20
    assert many - one == 8 * 2 * 3 * 512 * 512 * 4
