"""Which part of an aligned face is face: ParseNet or BiSeNet, from facexlib.

In: aligned faces `(B, 3, S, S) float in [-1, 1] RGB`. Out: soft weights for a paste, or the plain
answer face or not. There is a parser only where its weights lie in the weights folder. Both
networks tell 19 parts apart, those of the CelebAMask-HQ data set, each in an order of its own.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its customary name

from gpen_engine.checkpoint import hash_file, read_tensors, unwrap
from gpen_engine.devices import device_errors
from gpen_engine.errors import CheckpointMismatch
from gpen_engine.faces import ModelIdentity
from gpen_engine.facexlib_shim import parsing_module
from gpen_engine.weights import BISENET, PARSENET, KnownWeights, find_in

PARSER_SIZE_PX = 512
"""Side of the picture that both networks were trained on."""
_NO_FACE = frozenset({"background", "hat", "cloth"})
"""What the published pipeline leaves out."""
_NO_HEAD = _NO_FACE | {"neck", "necklace"}
"""Left out of soft masks: a neck goes on past the crop, and has no outline to end at."""
_SMOOTHING_PX = 14.0
"""Standard deviation. The weights rise from nothing to all over about twice as much."""
_BORDER_PX = 32.0
_FADE_PX = 64.0


@dataclass(frozen=True, slots=True)
class ParserDesign:
    """What a parser's weights file doesn't say of itself.

    Attributes:
        build: makes the network, with any weights.
        parts: what its classes mean, in order.
        mean: of the network's input, by channel, where the picture is 0 to 1.
        deviation: by which the input is divided, by channel.
        activation_bytes: peak memory of a face above the weights, measured in float32.
    """

    build: Callable[[], nn.Module]
    parts: tuple[str, ...]
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    activation_bytes: int


def _parsenet() -> nn.Module:
    network: nn.Module = parsing_module().ParseNet(
        in_size=PARSER_SIZE_PX, out_size=PARSER_SIZE_PX, parsing_ch=len(PARSENET_DESIGN.parts)
    )
    return network


def _bisenet() -> nn.Module:
    network: nn.Module = parsing_module().BiSeNet(num_class=len(BISENET_DESIGN.parts))
    return network


# The orders and the scales of the inputs: facexlib's inference_parsing_parsenet.py and
# inference_parsing.py.
# fmt: off
PARSENET_DESIGN = ParserDesign(
    _parsenet,
    (
        "background", "skin", "nose", "glasses", "left eye", "right eye", "left brow",
        "right brow", "left ear", "right ear", "mouth", "upper lip", "lower lip", "hair", "hat",
        "earring", "necklace", "neck", "cloth",
    ),
    mean=(0.5, 0.5, 0.5),
    deviation=(0.5, 0.5, 0.5),
    activation_bytes=640 << 20,
)
BISENET_DESIGN = ParserDesign(
    _bisenet,
    (
        "background", "skin", "left brow", "right brow", "left eye", "right eye", "glasses",
        "left ear", "right ear", "earring", "nose", "mouth", "upper lip", "lower lip", "neck",
        "necklace", "cloth", "hair", "hat",
    ),
    # The mean and the deviation of ImageNet, on which its backbone was trained.
    mean=(0.485, 0.456, 0.406),
    deviation=(0.229, 0.224, 0.225),
    activation_bytes=192 << 20,
)
# fmt: on


class FaceParser:
    """A parsing network on one device. One face at a time: ParseNet takes half a gigabyte each.

    Args:
        network: answers `(1, 3, 512, 512)` with a tuple, `(1, classes, 512, 512)` first.
        design: what its answers mean.
        identity: for the sidecar.
        device: where the network is.
    """

    def __init__(
        self,
        network: nn.Module,
        design: ParserDesign,
        identity: ModelIdentity,
        *,
        device: torch.device,
    ) -> None:
        self._network = network.eval().requires_grad_(requires_grad=False)
        self._design = design
        self._device = device
        self.identity = identity

    @property
    def needed_bytes(self) -> int:
        """Memory that it takes on the device while it works, its weights included."""
        tensors: Iterable[Tensor] = self._network.state_dict().values()
        weights_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return weights_bytes + self._design.activation_bytes

    def masks(self, faces: Tensor) -> NDArray[np.float32]:
        """Return how much of each pixel a restored face shall replace.

        1 well inside the head, falling smoothly to 0 at its outline, and 0 near the crop's border,
        so that neither what is behind the head nor the crop's edge shows in a paste.

        Args:
            faces: `(B, 3, S, S) float in [-1, 1] RGB`.

        Returns:
            `(B, S, S) float32 in [0, 1]`.

        Raises:
            OutOfMemory: a single face doesn't fit on the device.
        """
        chosen = self._classes_besides(_NO_HEAD)
        side = faces.shape[-1]
        soft = np.zeros((len(faces), side, side), np.float32)
        for index, face in enumerate(faces):
            shares = self._scores(face).softmax(dim=0)[chosen].sum(dim=0)
            soft[index] = _softened(shares.cpu().numpy(), side)
        return soft

    def face_area(self, faces: Tensor) -> NDArray[np.bool_]:
        """Return what the published pipeline takes for face: hair and neck too, hat and cloth not.

        Args:
            faces: `(B, 3, S, S) float in [-1, 1] RGB`.

        Returns:
            `(B, 512, 512) bool`.

        Raises:
            OutOfMemory: a single face doesn't fit on the device.
        """
        chosen = torch.tensor(self._classes_besides(_NO_FACE))
        area = np.zeros((len(faces), PARSER_SIZE_PX, PARSER_SIZE_PX), np.bool_)
        for index, face in enumerate(faces):
            area[index] = torch.isin(self._scores(face).argmax(dim=0).cpu(), chosen).numpy()
        return area

    def _classes_besides(self, left_out: frozenset[str]) -> list[int]:
        return [index for index, part in enumerate(self._design.parts) if part not in left_out]

    def _scores(self, face: Tensor) -> Tensor:
        """Return `(classes, 512, 512)` on the device."""
        side = (PARSER_SIZE_PX, PARSER_SIZE_PX)
        what = f"the face parser on {self._device}"
        with device_errors(what), torch.inference_mode():
            x = face[None].to(self._device, torch.float32)
            if x.shape[-2:] != side:
                x = F.interpolate(x, side, mode="bilinear", align_corners=False, antialias=True)
            mean, deviation = (
                torch.tensor(values, device=self._device)[:, None, None]
                for values in (self._design.mean, self._design.deviation)
            )
            scores: Tensor = self._network((x.clamp(-1, 1) * 0.5 + 0.5 - mean) / deviation)[0][0]
            return scores.float()


def load_parser(device: torch.device, *, folder: Path | None) -> FaceParser | None:
    """Build the parser whose weights are in the weights folder; None when there are none.

    Where both are, it is ParseNet, the published pipeline's. BiSeNet is a seventeenth of the work:
    27.5 GFLOP a face instead of 469.

    Raises:
        CheckpointCorrupt: a file there isn't what its name says.
        CheckpointMismatch: it is, and this facexlib has another network of that name.
    """
    for known, design in ((PARSENET, PARSENET_DESIGN), (BISENET, BISENET_DESIGN)):
        path = find_in(folder, known)
        if path is not None:
            return _from_file(path, known, design, device)
    return None


def _from_file(
    path: Path, known: KnownWeights, design: ParserDesign, device: torch.device
) -> FaceParser:
    sha256 = hash_file(path, expected=known.sha256)
    tensors = unwrap(read_tensors(path), name=path.name)
    # Drawing random weights that are overwritten at once would take a second.
    with torch.device("meta"):
        network = design.build()
    try:
        network.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise CheckpointMismatch(f"{path.name} doesn't fit facexlib: {str(error)[:300]}") from error
    with device_errors(f"the face parser on {device}"):
        network = network.to(device)
    return FaceParser(network, design, ModelIdentity(known.name, sha256), device=device)


def _softened(shares: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Turn the certainty that a pixel is face, `(512, 512)`, into weights `(side, side)`."""
    blurred = cv2.GaussianBlur(shares, (0, 0), _SMOOTHING_PX)
    # Half is the outline: beyond it the photograph stays.
    inside = _smooth_step(np.asarray(2.0 * blurred - 1.0, np.float32))
    steps = np.arange(PARSER_SIZE_PX, dtype=np.float32)
    from_edge = np.minimum(steps, steps[::-1])
    fade = _smooth_step(np.asarray((from_edge - _BORDER_PX) / _FADE_PX, np.float32))
    weights = inside * np.minimum(fade[:, None], fade[None, :])
    if side != PARSER_SIZE_PX:
        way = cv2.INTER_AREA if side < PARSER_SIZE_PX else cv2.INTER_LINEAR
        weights = np.asarray(cv2.resize(weights, (side, side), interpolation=way), np.float32)
    return np.clip(weights, 0.0, 1.0)


def _smooth_step(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rise from 0 at 0 to 1 at 1 without a kink."""
    x = np.clip(x, 0.0, 1.0)
    return np.asarray(x * x * (3.0 - 2.0 * x), np.float32)
