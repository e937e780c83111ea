"""Restores and enlarges a whole picture, faces or none, by a network that spandrel can read.

In: a picture `(H, W, 3) uint8|uint16 RGB` and a scale. Out: the picture once, twice or four times
as large, at its own depth. It is a matter of taste and off unless asked for: every pixel changes.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from gpen_engine.checkpoint import hash_file, read_tensors, unwrap
from gpen_engine.colour import ColourSpace, Shares
from gpen_engine.devices import device_errors
from gpen_engine.errors import CheckpointCorrupt, CheckpointError
from gpen_engine.faces import ModelIdentity, Pixels
from gpen_engine.precision import Precision
from gpen_engine.spandrel_shim import ImageNetwork, load_network
from gpen_engine.tiling import run_tiled
from gpen_engine.weights import REALESR_GENERAL_X4V3, find_in, name_of

SCALES = (1, 2, 4)
_SAME_VALUES_SHA256 = "36ea59af6f5778a818a266cc9650e564eb1533f657a8487d0a05855ad4827961"
"""realesr-general-x4v3 in float16, as released for ncnn."""

_TILE_PX = 768
_MARGIN_PX = 32
"""Realesr-general-x4v3 looks 34 px far; beyond 28 px nothing moves its answer by half a level."""
_OVERLAP_PX = 80
_SMALLEST_TILE_PX = 160
_ROWS = 256


class Background:
    """A super-resolution or restoration network on one device.

    Args:
        network: on the device, in float32.
        identity: where it comes from.
        device: where it is.
        precision: what it computes in, as far as it can; a tile that fails is redone in float32.
        tile_px: longest side of a tile; gets smaller when memory runs out, and stays so.
    """

    def __init__(
        self,
        network: ImageNetwork,
        identity: ModelIdentity,
        *,
        device: torch.device,
        precision: Precision = Precision.FP32,
        tile_px: int = _TILE_PX,
    ) -> None:
        self.identity = identity
        self.precision = precision if precision in network.precisions else Precision.FP32
        self.tile_px = tile_px
        self._network = network
        self._device = device

    def enhance(
        self,
        image: Pixels,
        scale: int,
        *,
        colour: ColourSpace | None = None,
        on_shrink: Callable[[int], None] | None = None,
        on_float32: Callable[[], None] | None = None,
    ) -> Pixels:
        """Return the picture restored and `scale` times as large; a gray one stays gray.

        Args:
            image: `(H, W, 3) uint8|uint16 RGB`.
            scale: 1, 2 or 4. What the network makes larger is reduced by the mean of its pixels.
            colour: what the picture's samples mean; None takes them for sRGB.
            on_shrink: is told the new size of tiles when memory ran out.
            on_float32: is called for each tile that the faster precision failed on.

        Raises:
            CheckpointError: the network doesn't enlarge that much, or gives what are no numbers.
            ImageError: the array is no picture.
            OutOfMemory: not even a small tile fits on the device.
        """
        if scale not in SCALES:
            raise ValueError(f"a background {scale} times as large; choose 1, 2 or 4")
        if self._network.scale % scale:
            raise CheckpointError(
                f"{self.identity.name} makes pictures {self._network.scale} times as large, "
                f"not {scale} times"
            )
        reduction = self._network.scale // scale
        gray = _is_gray(image)

        def restore(tile: Tensor) -> Tensor:
            seen = tile if colour is None else _converted(tile, colour.to_srgb)
            answer = _grayed(avg_pool2d(self._forward(seen, on_float32), reduction), gray=gray)
            if colour is None:
                return answer
            # What sRGB can't show of the photograph's colours stays with them.
            lost = tile - _converted(seen, colour.from_srgb)
            lost = interpolate(lost, scale_factor=scale, mode="bilinear")
            own = _converted(answer, colour.from_srgb) + lost
            return _grayed(own, gray=gray)

        def remember(tile_px: int) -> None:
            self.tile_px = tile_px
            if on_shrink is not None:
                on_shrink(tile_px)

        return run_tiled(
            restore,
            image,
            device=self._device,
            scale=scale,
            multiple=self._network.multiple,
            tile_px=self.tile_px,
            overlap_px=_OVERLAP_PX,
            margin_px=_MARGIN_PX,
            minimum_px=_SMALLEST_TILE_PX,
            on_shrink=remember,
        )

    def _forward(self, tile: Tensor, on_float32: Callable[[], None] | None) -> Tensor:
        """Return the network's answer in float32, finite."""
        if self.precision is not Precision.FP32:
            with torch.autocast(self._device.type, self.precision.dtype):
                answer = self._network(tile)
            if answer is not None:
                return answer.float()
            if on_float32 is not None:
                on_float32()
        answer = self._network(tile)
        if answer is None:
            raise CheckpointError(f"{self.identity.name} gives values that are no numbers")
        return answer


def load_background(
    device: torch.device,
    *,
    path: Path | None = None,
    folder: Path | None = None,
    precision: Precision = Precision.FP32,
    tile_px: int = _TILE_PX,
) -> Background | None:
    """Load a background network.

    Args:
        device: where it will run.
        path: any file that spandrel can read.
        folder: where realesr-general-x4v3 is looked for when there is no path.
        precision: see `Background`.
        tile_px: see `Background`.

    Returns:
        None when there is no path and the folder doesn't hold the file.

    Raises:
        CheckpointCorrupt: the file is missing or damaged, or has a known one's name and isn't it.
        CheckpointUnknown: it holds something else than such a network.
        CheckpointMismatch: its tensors don't fit the network they look like.
        OutOfMemory: not even the weights fit on the device.
    """
    known = REALESR_GENERAL_X4V3
    file = path or find_in(folder, known)
    if file is None:
        return None
    sha256 = hash_file(file)
    is_known = sha256 in {known.sha256, _SAME_VALUES_SHA256}
    if path is None and not is_known:
        raise CheckpointCorrupt(
            f"{file.name} has sha256 {sha256}, expected {known.sha256}: "
            "it is damaged or another file"
        )
    tensors = unwrap(read_tensors(file), name=file.name)
    with device_errors(f"the weights of {file.name} on {device}"):
        network = load_network(tensors, name=file.name, device=device)
    identity = ModelIdentity(known.name if is_known else name_of(sha256), sha256)
    return Background(network, identity, device=device, precision=precision, tile_px=tile_px)


def _converted(tile: Tensor, convert: Callable[[Shares], Shares]) -> Tensor:
    """Convert the colours of `(1, 3, h, w)`, wherever it is."""
    pixels = tile[0].permute(1, 2, 0).clamp(0.0, 1.0).cpu().numpy()
    converted = torch.from_numpy(convert(np.ascontiguousarray(pixels)))
    return converted.permute(2, 0, 1)[None].to(tile.device)


def _grayed(tile: Tensor, *, gray: bool) -> Tensor:
    return tile.mean(dim=1, keepdim=True).expand_as(tile) if gray else tile


def _is_gray(image: Pixels) -> bool:
    """Tell whether all channels are equal, a few rows at a time."""
    return all(
        bool((rows[..., 1:] == rows[..., :1]).all())
        for rows in (image[y : y + _ROWS] for y in range(0, len(image), _ROWS))
    )
