"""The one place that imports facexlib, and what that takes beside a CPU-only torch.

facexlib imports torchvision. The registry's torchvision is built for CUDA; beside a CPU-only torch
its operators don't load, and the import stops at `operator torchvision::nms does not exist`.
Declaring the two schemas lets the import through, and facexlib's RetinaFace gets an NMS in NumPy.
Beside a torch whose torchvision works, nothing of that is done.
"""

import importlib
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

_MISSING = "torchvision::nms"
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared: list[torch.library.Library] = []
"""Keeps the declarations alive: a library that is collected takes its operators with it."""


def retinaface_module() -> ModuleType:
    """Import and return `facexlib.detection.retinaface`, usable on this machine."""
    torchvision = import_torchvision()
    module = _import_quietly("facexlib.detection.retinaface")
    if not torchvision.extension._has_ops():
        module.py_cpu_nms = non_maximum_suppression  # type: ignore[attr-defined]
    return module


def parsing_module() -> ModuleType:
    """Import and return `facexlib.parsing`: ParseNet and BiSeNet, which need no operators."""
    import_torchvision()
    return _import_quietly("facexlib.parsing")


def import_torchvision(
    importer: Callable[[str], ModuleType] = importlib.import_module,
) -> ModuleType:
    """Import torchvision, declaring the operators it misses when that is what stops it."""
    try:
        return importer("torchvision")
    except RuntimeError as error:
        if _MISSING not in str(error):
            raise
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        library.define(name + _SCHEMA)  # type: ignore[no-untyped-call]
    _declared.append(library)
    return importer("torchvision")


def _import_quietly(name: str) -> ModuleType:
    with warnings.catch_warnings():
        # facexlib 0.3.0 has invalid escape sequences and old torchvision calls; they concern its
        # authors.
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


def non_maximum_suppression(boxes: NDArray[np.floating[Any]], threshold: float) -> list[int]:
    """Keep the best of boxes that overlap.

    Args:
        boxes: `(N, 5)`: x0, y0, x1, y1, score.
        threshold: intersection over union above which the worse one goes.

    Returns:
        Indices of the boxes to keep, best first.
    """
    x0, y0, x1, y1 = boxes[:, 0], boxes[:, 1], boxes[:, 2], boxes[:, 3]
    areas = (x1 - x0) * (y1 - y0)
    order = np.argsort(-boxes[:, 4], kind="stable")
    kept: list[int] = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(int(best))
        width = np.clip(np.minimum(x1[best], x1[rest]) - np.maximum(x0[best], x0[rest]), 0, None)
        height = np.clip(np.minimum(y1[best], y1[rest]) - np.maximum(y0[best], y0[rest]), 0, None)
        shared = width * height
        order = rest[shared <= threshold * (areas[best] + areas[rest] - shared)]
    return kept
