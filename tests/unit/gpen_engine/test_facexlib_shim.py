"""facexlib imports on this machine, with as little done to torchvision as it needs."""

import subprocess
import sys
import types

import numpy as np
import pytest
import torch

from gpen_engine import facexlib_shim
from gpen_engine.facexlib_shim import (
    import_torchvision,
    non_maximum_suppression,
    parsing_module,
    retinaface_module,
)


def test_retinaface_imports_here():
    module = retinaface_module()

    assert module.RetinaFace.__name__ == "RetinaFace"
    assert retinaface_module() is module


def test_the_parsers_import_here():
    module = parsing_module()

    assert module.ParseNet.__name__ == "ParseNet"
    assert module.BiSeNet.__name__ == "BiSeNet"
    assert parsing_module() is module


@pytest.mark.parametrize("works", [True, False])
def test_facexlib_keeps_its_own_suppression_where_the_operators_of_torchvision_load(
    monkeypatch, works
):
    module, torchvision = retinaface_module(), import_torchvision()
    monkeypatch.setattr(module, "py_cpu_nms", "facexlib's own")
    monkeypatch.setattr(torchvision.extension, "_has_ops", lambda: works)

    suppression = retinaface_module().py_cpu_nms

    assert suppression == ("facexlib's own" if works else non_maximum_suppression)


def test_a_torchvision_that_imports_gets_nothing_declared():
    before = list(facexlib_shim._declared)
    healthy = types.ModuleType("torchvision")

    assert import_torchvision(lambda _name: healthy) is healthy
    assert facexlib_shim._declared == before


class MissesOperators:
    """Imports torchvision the way it goes beside a CPU-only torch: not before nms is declared."""

    def __init__(self) -> None:
        self.module = types.ModuleType("torchvision")
        self.tries = 0

    def __call__(self, _name):
        self.tries += 1
        if self.tries == 1:
            raise RuntimeError("operator torchvision::nms does not exist")
        return self.module


class Recorder:
    """Stands in for a library of operators, which can be declared only once a process."""

    def __init__(self, namespace, kind):
        self.namespace, self.kind, self.schemas = namespace, kind, []

    def define(self, schema):
        self.schemas.append(schema)


def test_a_torchvision_without_operators_gets_the_two_schemas_and_another_try(monkeypatch):
    monkeypatch.setattr(torch.library, "Library", Recorder)
    monkeypatch.setattr(facexlib_shim, "_declared", [])
    importer = MissesOperators()

    assert import_torchvision(importer) is importer.module

    (library,) = facexlib_shim._declared
    assert (library.namespace, importer.tries) == ("torchvision", 2)
    assert [schema.partition("(")[0] for schema in library.schemas] == ["nms", "qnms"]


def test_another_failure_of_torchvision_is_not_hidden():
    def broken(_name):
        raise RuntimeError("libcudart.so.12: cannot open shared object file")

    with pytest.raises(RuntimeError, match="libcudart"):
        import_torchvision(broken)


def test_a_missing_torchvision_is_not_hidden():
    def missing(name):
        raise ModuleNotFoundError(name)

    with pytest.raises(ModuleNotFoundError):
        import_torchvision(missing)


@pytest.mark.parametrize("get", ["retinaface_module", "parsing_module"])
def test_a_new_process_imports_facexlib_with_warnings_as_errors(get):
    code = (
        f"from gpen_engine.facexlib_shim import {get} as get; get(); "
        "from torch import ops; print(hasattr(ops.torchvision, 'nms'))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout.strip()) == (0, "True"), done.stderr


def suppress_slowly(boxes, threshold):
    def area(box):
        return (box[2] - box[0]) * (box[3] - box[1])

    def overlap(one, other):
        width = min(one[2], other[2]) - max(one[0], other[0])
        height = min(one[3], other[3]) - max(one[1], other[1])
        shared = max(width, 0) * max(height, 0)
        return shared / (area(one) + area(other) - shared)

    kept = []
    for index in sorted(range(len(boxes)), key=lambda index: -boxes[index][4]):
        if all(overlap(boxes[index], boxes[better]) <= threshold for better in kept):
            kept.append(index)
    return kept


@pytest.mark.parametrize("threshold", [0.1, 0.4, 0.7])
@pytest.mark.parametrize("count", [0, 1, 2, 60])
def test_suppression_keeps_what_comparing_every_pair_keeps(count, threshold):
    rng = np.random.default_rng(count)
    corner, extent = rng.uniform(0, 100, (count, 2)), rng.uniform(5, 60, (count, 2))
    boxes = np.hstack([corner, corner + extent, rng.random((count, 1))])

    assert non_maximum_suppression(boxes, threshold) == suppress_slowly(boxes, threshold)


def test_suppression_of_boxes_without_area_ends():
    boxes = np.array([[1.0, 1.0, 1.0, 1.0, 0.9], [1.0, 1.0, 1.0, 1.0, 0.8]])

    assert 0 in non_maximum_suppression(boxes, 0.4)
