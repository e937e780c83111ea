import hashlib
import re
import sys
import textwrap
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import torch

from gpen_engine import restorers
from gpen_engine.errors import (
    CheckpointCorrupt,
    CheckpointError,
    CheckpointMismatch,
    CheckpointUnknown,
)
from gpen_engine.faces import Template
from gpen_engine.precision import Precision
from gpen_engine.restorers import WeightsFile
from gpen_engine.weights import CODEFORMER_0_1_0, COMPACT, COMPACT_FILE, GFPGAN_1_4
from tests.unit.gpen_engine.fakes import ASTRONAUT, make_restorer

ROOT = Path(__file__).parents[3]

PAGE = (ROOT / "docs" / "restorers.md").read_text(encoding="utf-8")
PLUGIN, FAITHFUL = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
"""The page's own examples: what it tells plug-in authors to write has to work."""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a distribution with one module and its restorers, as pip would."""

    def add(distribution, entries, source=""):
        module = distribution.replace("-", "_")
        monkeypatch.delitem(sys.modules, module, raising=False)
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(source))
        folder = tmp_path / f"{module}-2.1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Name: {distribution}\nVersion: 2.1\n")
        lines = [f"{name} = {module}:{attribute}" for name, attribute in entries.items()]
        (folder / "entry_points.txt").write_text("\n".join([f"[{restorers.GROUP}]", *lines]))
        monkeypatch.syspath_prepend(tmp_path)
        return module

    return add


@pytest.fixture
def face_file(tmp_path):
    path = tmp_path / "face.pth"
    torch.save({"params": {"sharpen.weight": torch.full((3, 3, 3, 3), 0.5)}}, path)
    return WeightsFile(path, hashlib.sha256(path.read_bytes()).hexdigest(), "face.pth")


def test_a_plugin_is_found_by_name_and_gets_the_file(install, face_file):
    install("sharp-faces", {"sharpener": "sharpener"}, PLUGIN)
    assert "sharpener" in restorers.names()
    model = restorers.load(face_file, restorer="sharpener")
    assert (model.name, model.sha256, model.size) == ("face.pth", face_file.sha256, 256)
    network = model.on(torch.device("cpu"), Precision.FP32)
    face = torch.zeros(1, 3, 256, 256)
    face[0, 0, 9, 9] = 0.25
    assert network(face)[0, :, 9, 9].tolist() == [0.375, 0.125, 0.125]
    assert network.weights_bytes == 81 * 4
    assert network.activation_bytes(2) == 2 * network.activation_bytes(1)


def test_the_pages_plugin_restores_a_face_through_planner_and_engine(install, face_file, astronaut):
    install("sharp-faces", {"sharpener": "sharpener"}, PLUGIN)
    model = restorers.load(face_file, restorer="sharpener")
    engine = make_restorer(model, ASTRONAUT, precision="bf16")

    result = engine.restore(astronaut)

    (outcome,) = result.faces
    assert outcome.restored
    x0, y0, x1, y1 = outcome.region
    changed = (result.image != astronaut).any(axis=2)
    assert changed[y0:y1, x0:x1].mean() > 0.2
    changed[y0:y1, x0:x1] = False
    assert not np.any(changed)
    known_by = (engine.identity.weights, engine.identity.weights_sha256, engine.identity.size)
    assert known_by == ("face.pth", face_file.sha256, 256)
    # What it computes in, not what was asked for: the page's network knows float32 only.
    assert engine.identity.precision is Precision.FP32


def test_gpen_goes_through_the_same_door():
    model = restorers.load(WeightsFile(COMPACT_FILE, COMPACT.sha256, "compact"))
    assert (model.name, model.template, model.size) == ("compact", Template.GPEN, 256)
    assert restorers.names()[0] == "gpen"
    assert restorers.find("gpen")(WeightsFile(COMPACT_FILE, COMPACT.sha256, "x")).name == "x"


def test_no_plugin_is_imported_before_it_is_asked_for(install, face_file):
    install("broken-one", {"broken": "make"}, "raise ZeroDivisionError('at import')\n")
    install("sharp-faces", {"sharpener": "sharpener"}, PLUGIN)
    assert {"broken", "sharpener"} <= set(restorers.names())
    assert restorers.load(face_file, restorer="sharpener").size == 256


@pytest.mark.parametrize(
    ("source", "entry", "said"),
    [
        ("import no_such_module_anywhere\n", "make", "no_such_module_anywhere"),
        ("raise ZeroDivisionError('at import')\n", "make", "ZeroDivisionError: at import"),
        ("", "make", "AttributeError"),
        ("make = 3\n", "make", "isn't callable"),
        ("def make(weights):\n    raise KeyError\n", "make", "failed at face.pth: KeyError"),
        ("def make(weights):\n    return 3\n", "make", "it lacks name, sha256, template"),
    ],
)
def test_a_broken_plugin_is_named_with_its_distribution(install, face_file, source, entry, said):
    install("broken-one", {"broken": entry}, source)
    with pytest.raises(CheckpointError, match=r"'broken' \(broken-one 2\.1\)") as caught:
        restorers.load(face_file, restorer="broken")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("spoilt", "lacking"),
    [
        ("del Network.precision", "precision"),
        ("del Network.weights_bytes, Network.activation_bytes", "weights_bytes, activation_bytes"),
        ("del Network.input_size, Network.size", "input_size, size"),
        ("del Network.__call__", "__call__"),
    ],
)
def test_a_plugin_whose_network_is_none_is_named_before_work(install, face_file, spoilt, lacking):
    install("broken-one", {"broken": "sharpener"}, f"{PLUGIN}\n{spoilt}\n")
    model = restorers.load(face_file, restorer="broken")
    with pytest.raises(CheckpointError, match=r"'broken' \(broken-one 2\.1\)") as caught:
        make_restorer(model)
    assert str(caught.value).endswith(f"it lacks {lacking}")


def test_a_plugin_cannot_pass_one_file_off_as_another(install, face_file):
    liar = """
        def liar(weights):
            model = sharpener(weights)
            model.sha256 = "f" * 64
            return model
        """
    install("liar", {"liar": "liar"}, PLUGIN + textwrap.dedent(liar))
    with pytest.raises(CheckpointError, match="another hash"):
        restorers.load(face_file, restorer="liar")


def test_the_pages_codeformer_of_two_lines_is_one(install):
    install("faithful-faces", {"faithful": "faithful"}, FAITHFUL)
    factory = restorers.find("faithful")
    assert (factory.func.__name__, factory.keywords) == ("codeformer", {"fidelity": 1.0})


def test_what_the_plugin_says_of_its_file_comes_through(install, face_file):
    source = """
        from gpen_engine import CheckpointMismatch

        def make(weights):
            raise CheckpointMismatch("the tail is missing")
        """
    install("strict-one", {"strict": "make"}, source)
    with pytest.raises(CheckpointMismatch, match=r"^the tail is missing$"):
        restorers.load(face_file, restorer="strict")


def test_an_unknown_restorer_is_answered_with_the_known_ones(install):
    install("sharp-faces", {"sharpener": "sharpener"}, PLUGIN)
    with pytest.raises(CheckpointError, match=r"'sharpner'; there are gpen, .*sharpener"):
        restorers.find("sharpner")


def test_two_plugins_of_one_name_are_both_named(install):
    install("first", {"sharpener": "sharpener"}, PLUGIN)
    install("second", {"sharpener": "sharpener"}, PLUGIN)
    with pytest.raises(CheckpointError, match=r"first 2\.1 and second 2\.1"):
        restorers.find("sharpener")


def test_a_plugin_without_a_distribution_is_named_by_its_place(monkeypatch):
    entry = EntryPoint("loose", "no_such_module_anywhere:make", restorers.GROUP)
    monkeypatch.setattr(restorers, "entry_points", lambda **_given: [entry])
    with pytest.raises(CheckpointError, match=r"'loose' \(no_such_module_anywhere:make\)"):
        restorers.find("loose")


def test_a_file_that_is_not_gpens_is_answered_with_how_to_name_its_network(install, face_file):
    install("sharp-faces", {"sharpener": "sharpener"}, PLUGIN)
    with pytest.raises(CheckpointUnknown, match=r"RESTORER:FILE \(.*sharpener"):
        restorers.load(face_file)
    with pytest.raises(CheckpointUnknown) as caught:
        restorers.load(face_file, restorer="gpen")
    assert "RESTORER" not in str(caught.value)


def test_a_restorer_and_its_file_are_written_with_a_colon(install):
    install("sharp-faces", {"sharpener": "sharpener"}, PLUGIN)
    assert restorers.split("sharpener:my/face.pth") == ("sharpener", "my/face.pth")
    assert restorers.split("other:face.pth") == (None, "other:face.pth")
    assert restorers.split("compact") == (None, "compact")
    assert restorers.split(Path("face.pth")) == (None, "face.pth")


@pytest.mark.parametrize(
    ("known", "restorer"), [(GFPGAN_1_4, "gfpgan"), (CODEFORMER_0_1_0, "codeformer")]
)
def test_published_files_need_no_restorer_named(install, face_file, known, restorer, monkeypatch):
    entries = [EntryPoint(restorer, "sharp_faces:sharpener", restorers.GROUP)]
    install("sharp-faces", {}, PLUGIN)
    monkeypatch.setattr(
        restorers, "entry_points", lambda **given: entries if given["name"] == restorer else []
    )
    model = restorers.load(WeightsFile(face_file.path, known.sha256, known.name))
    # The page's network, not GPEN's, which is what a file is taken for otherwise.
    assert (model.name, model.sha256, model.size) == (known.name, known.sha256, 256)


def test_gpens_own_hash_is_checked_again(face_file):
    with pytest.raises(CheckpointCorrupt, match="expected"):
        restorers.load(WeightsFile(COMPACT_FILE, face_file.sha256, "compact"))


def test_the_project_declares_its_own_two_restorers():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = project["entry-points"][restorers.GROUP]
    assert set(declared) == {"codeformer", "gfpgan"}
    for name, value in declared.items():
        factory = EntryPoint(name, value, restorers.GROUP).load()
        assert factory.__name__ == name
