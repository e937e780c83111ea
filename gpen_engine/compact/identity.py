"""Whose face it is: dlib's face recognition network, differentiable, for training and scores.

In: aligned faces in GPEN's template and dlib's weights file, which the `face_recognition_models`
package contains. Out: descriptors of 128 numbers; those of one person lie nearer than 0.6 to each
other (Euclidean distance). The network is `anet_type` of dlib's dnn_face_recognition_ex.cpp; dlib's
author gave its weights to the public domain (CC0).
"""

import hashlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its customary name

from gpen_engine.align import similarity
from gpen_engine.compact.dlib_file import CHIP_PX, LEVELS, NUMBERS, RGB_MEAN, STEM, parse

_PACKAGE = "face_recognition_models"
_FILE = "models/dlib_face_recognition_resnet_model_v1.dat"
_SHA256 = "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"

_CHIP_PADDING = 0.25
_MEAN_FACE = (
    (0.225492, 0.215990),
    (0.754761, 0.215990),
    (0.490127, 0.515625),
    (0.254149, 0.780233),
    (0.726104, 0.780233),
)
"""Eyes, nose tip and corners of the mouth in dlib's unit face: `mean_face_shape_x` and `_y` of
dlib/image_transforms/interpolation.h. An eye is the mean of its six points."""
_VIEW_PX = 252
"""Side of an aligned face whose pixels are as large as the chip's."""

_RGB_SCALE = 256.0


class FaceNet(nn.Module):
    """dlib's residual network: `anet_type`, its affine layers folded into its convolutions.

    A new one has random weights; `load_face_net` gives dlib's.
    """

    _to_crop: Tensor
    _mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, STEM, 7, stride=2)
        self.levels = nn.ModuleList()
        before = STEM
        for channels, count, halves in LEVELS:
            first = _Block(before, channels, halves=halves)
            rest = (_Block(channels, channels) for _ in range(count - 1))
            self.levels.append(nn.Sequential(first, *rest))
            before = channels
        self.head = nn.Linear(before, NUMBERS, bias=False)
        self.register_buffer("_to_crop", _chip_to_crop(), persistent=False)
        self.register_buffer("_mean", torch.tensor(RGB_MEAN).view(3, 1, 1), persistent=False)

    def forward(self, faces: Tensor) -> Tensor:
        """Describe aligned faces.

        Args:
            faces: `(B, 3, S, S) float in [-1, 1] RGB` in GPEN's template, of any side; not clipped.

        Returns:
            Descriptors `(B, 128)`, to be compared by Euclidean distance.
        """
        return self.features(faces)[-1]

    def features(self, faces: Tensor) -> tuple[Tensor, ...]:
        """Return what the network sees at each depth, for a feature loss.

        Args:
            faces: as for `forward`.

        Returns:
            The maps `(B, C, h, w)` after the stem (32 channels, 35x35) and after each level
            (32, 35x35; 64, 17x17; 128, 8x8; 256, 4x4; 256, 2x2), then the descriptors `(B, 128)`.
        """
        return self.describe(self.chips(faces))

    def chips(self, faces: Tensor) -> Tensor:
        """Resample aligned faces to what dlib's network looks at.

        The similarity is fixed: the least-squares one between GPEN's template and the same five
        points of dlib's mean face with a padding of 0.25 (dlib's `get_face_chip_details`).

        Args:
            faces: as for `forward`. Larger ones are averaged first, so that nothing aliases.

        Returns:
            `(B, 3, 150, 150) float in [0, 255] RGB`.
        """
        side = faces.shape[-1]
        times = round(side / _VIEW_PX)
        if times > 1:
            faces = F.interpolate(faces, size=round(side / times), mode="area")
        theta = self._to_crop.to(faces).expand(len(faces), 2, 3)
        # Where lower precision is switched on, places would be off by up to 0.7 px of 256.
        with torch.autocast(faces.device.type, enabled=False):
            grid = F.affine_grid(theta, [len(faces), 3, CHIP_PX, CHIP_PX], align_corners=False)
        # Small faces are enlarged here: a cubic keeps them nearer to their larger selves.
        return (F.grid_sample(faces, grid, mode="bicubic", align_corners=False) + 1) * 127.5

    def describe(self, chips: Tensor) -> tuple[Tensor, ...]:
        """Return `features` of chips `(B, 3, 150, 150) float in [0, 255] RGB`."""
        x = (chips - self._mean) / _RGB_SCALE
        x = F.max_pool2d(F.relu(self.stem(x)), 3, stride=2)
        maps = [x]
        for level in self.levels:
            x = level(x)
            maps.append(x)
        return (*maps, self.head(x.mean(dim=(2, 3))))


class _Block(nn.Module):
    """Two convolutions around a shortcut, which is a mean over 2x2 pixels where they halve."""

    def __init__(self, before: int, channels: int, *, halves: bool = False) -> None:
        super().__init__()
        self.halves = halves
        # dlib pads a convolution only where its stride is 1.
        stride, padding = (2, 0) if halves else (1, 1)
        self.first = nn.Conv2d(before, channels, 3, stride=stride, padding=padding)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(F.relu(self.first(x)))
        if not self.halves:
            return F.relu(x + y)
        x = F.avg_pool2d(x, 2)
        shape = [max(sides) for sides in zip(x.shape[1:], y.shape[1:], strict=True)]
        return F.relu(_widened(x, shape) + _widened(y, shape))


def _widened(x: Tensor, shape: list[int]) -> Tensor:
    """Add zeros after the last channel, row and column, as dlib's `add_prev` does."""
    channels, height, width = (goal - have for goal, have in zip(shape, x.shape[1:], strict=True))
    return F.pad(x, (0, width, 0, height, 0, channels))


def _chip_to_crop() -> Tensor:
    """Return `(2, 3)`, from the chip to the crop, both from -1 to 1 as `affine_grid` has them."""
    points = (np.array(_MEAN_FACE) + _CHIP_PADDING) / (1 + 2 * _CHIP_PADDING)
    matrix = similarity(points, 1)
    linear, shift = matrix[:, :2], matrix[:, 2]
    shift = linear.sum(axis=1) + 2 * shift - 1
    return torch.tensor(np.column_stack([linear, shift]), dtype=torch.float32)


def load_face_net(path: Path | None = None) -> FaceNet:
    """Load dlib's weights: in evaluation mode, without gradients for the weights.

    Args:
        path: `dlib_face_recognition_resnet_model_v1.dat`; by default that of the installed
            `face_recognition_models` package.

    Raises:
        FileNotFoundError: `path` is None and the package isn't installed, or there is no file.
        ValueError: the file is another one.
    """
    path = path or _installed()
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != _SHA256:
        raise ValueError(f"{path} isn't dlib's face recognition network: its sha256 differs")
    net = FaceNet()
    net.load_state_dict(parse(data))
    return net.eval().requires_grad_(False)


def _installed() -> Path:
    # The package isn't imported: it needs pkg_resources, which setuptools no longer has.
    spec = find_spec(_PACKAGE)
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder) / _FILE
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"{_PACKAGE} 0.3.0 isn't installed; install it with `pip install 'gpen-archive[train]'`"
    )
