"""Encodes a derivative: a `Photograph` and its restored pixels in, a complete file out.

Lossless output has the master's depth, channels and pages, and its samples wherever the restored
pixels are the master's. Pixels that were enlarged keep the size of a print.
"""

from collections.abc import Sequence
from typing import Any, Literal, assert_never

import numpy as np
from numpy.typing import NDArray

from jobs.errors import PhotoUnsupported
from jobs.recipe import Output
from worker.codec import jpeg, png, tiff_writer
from worker.codec.enlarge import enlarge
from worker.codec.photograph import AlphaKind, Container, Encoded, Page, Photograph, Samples

_Format = Literal["png", "tiff", "jpeg"]
_KINDS: dict[_Format, tuple[str, str]] = {
    "png": (".png", "image/png"),
    "tiff": (".tif", "image/tiff"),
    "jpeg": (".jpg", "image/jpeg"),
}
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
_TO_8_BIT = 257  # 65535 / 255


def encode(
    photograph: Photograph,
    pixels: Sequence[Samples],
    *,
    output: Output,
    jpeg_quality: int,
    software: str,
) -> Encoded:
    """Encode the derivative of a photograph.

    Args:
        photograph: as decoded.
        pixels: for each page an array of the type and shape of `Page.pixels`, or a whole number
            of times as high and wide.
        output: "same" keeps TIFF and stores every other kind as PNG.
        jpeg_quality: 1 to 100, for "jpeg" only.
        software: is written into the file as its maker.

    Raises:
        PhotoUnsupported: the chosen format can't hold the photograph.
        ValueError: the arrays aren't those of this photograph.
    """
    if len(pixels) != len(photograph.pages):
        raise ValueError(f"{len(pixels)} arrays for {len(photograph.pages)} pages")
    scales = [_scale_of(*pair) for pair in zip(photograph.pages, pixels, strict=True)]
    kind = _choose_format(photograph, output, scales[0])
    notes: list[str] = []
    pages = [enlarge(*pair) for pair in zip(photograph.pages, scales, strict=True)]
    leaves = [
        tiff_writer.Leaf(_join(page, restored, notes), page)
        for page, restored in zip(pages, pixels, strict=True)
    ]
    first, metadata = leaves[0].samples, pages[0].metadata
    match kind:
        case "tiff":
            data = tiff_writer.write(leaves, software=software, notes=notes)
        case "png":
            data = png.write(first, metadata, software=software, notes=notes)
        case "jpeg":
            flat = _flatten(first, gray=pages[0].gray, notes=notes)
            data = jpeg.write(flat, metadata, quality=jpeg_quality, software=software, notes=notes)
        case _:
            assert_never(kind)
    suffix, content_type = _KINDS[kind]
    return Encoded(data, suffix, content_type, tuple(dict.fromkeys(notes)))


def output_suffix(photograph: Photograph, output: Output, *, scale: int = 1) -> str:
    """Return the suffix that the derivative will have, with its dot.

    Args:
        photograph: as decoded.
        output: as for `encode`.
        scale: how many times as high and wide the derivative will be.

    Raises:
        PhotoUnsupported: the chosen format can't hold the photograph.
    """
    return _KINDS[_choose_format(photograph, output, scale)][0]


def _choose_format(photograph: Photograph, output: Output, scale: int) -> _Format:
    if output == "tiff" or (output == "same" and photograph.container is Container.TIFF):
        return "tiff"
    kind: _Format = "png" if output == "same" else output
    pages = photograph.pages
    if len(pages) > 1:
        raise PhotoUnsupported(f"{kind} can't hold {len(pages)} pages; choose same or tiff")
    alpha = pages[0].alpha
    if kind == "png" and alpha is not None and alpha.kind is AlphaKind.ASSOCIATED:
        raise PhotoUnsupported("png can't hold associated alpha unchanged; choose same or tiff")
    if kind == "jpeg" and max(pages[0].pixels.shape[:2]) * scale > jpeg.MAX_SIDE_PX:
        raise PhotoUnsupported(f"jpeg ends at {jpeg.MAX_SIDE_PX} pixels a side; choose tiff")
    return kind


def _scale_of(page: Page, restored: Samples) -> int:
    """Return how many times as high and wide as the master the restored pixels are."""
    height, width, channels = page.pixels.shape
    scale: int = restored.shape[0] // height
    expected = (height * scale, width * scale, channels)
    if not scale or restored.shape != expected or restored.dtype != page.pixels.dtype:
        raise ValueError(
            f"an array {restored.shape} {restored.dtype} "
            f"for a page {page.pixels.shape} {page.pixels.dtype}"
        )
    return scale


def _join(page: Page, restored: Samples, notes: list[str]) -> Samples:
    """Bring the restored pixels back to the master's channels."""
    colours = _one_channel(restored, notes) if page.gray else restored
    if page.alpha is None:
        return colours
    joined: NDArray[Any] = np.dstack([colours, page.alpha.samples])
    return joined


def _one_channel(pixels: Samples, notes: list[str]) -> Samples:
    """Return `(H, W)`; where the channels differ their luma, and that is said."""
    gray: NDArray[Any] = pixels[:, :, 0].copy()
    coloured = (pixels[:, :, 1] != gray) | (pixels[:, :, 2] != gray)
    if coloured.any():
        gray[coloured] = np.rint(pixels[coloured] @ _LUMA).astype(gray.dtype)
        notes.append("colour that restoration brought into a gray page was removed")
    return gray


def _flatten(samples: Samples, *, gray: bool, notes: list[str]) -> Samples:
    """Bring samples to what JPEG holds: 8 bits, no alpha."""
    flat: NDArray[Any] = samples
    if np.atleast_3d(samples).shape[2] not in {1, 3}:
        flat = samples[:, :, 0] if gray else samples[:, :, :-1]
        notes.append("JPEG can't hold the alpha channel; it was dropped")
    if flat.dtype == np.uint16:
        flat = np.rint(flat / _TO_8_BIT).astype(np.uint8)
        notes.append("JPEG can't hold 16 bits; the samples were rounded to 8")
    return np.ascontiguousarray(flat)
