"""Encodes a derivative: a `Photograph` and its restored pixels in, a complete file out.

Lossless output has the master's depth, channels and pages, and its samples wherever the restored
pixels are the master's. Pixels that were enlarged keep the size of a print.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import assert_never

from jobs.recipe import Output
from worker.codec import jp2, jpeg, png, tiff_writer, webp
from worker.codec.enlarge import enlarge
from worker.codec.formats import KINDS, choose_format, format_of
from worker.codec.photograph import Encoded, Jp2Storage, Page, Photograph, Samples
from worker.codec.settle import Format, settle
from worker.codec.tiff_storage import Leaf

__all__ = ["Format", "encode", "format_of", "output_suffix"]


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
        output: "same" keeps lossless containers where they hold everything; all others become PNG,
            or TIFF where PNG can't hold them.
        jpeg_quality: 1 to 100, for "jpeg" only.
        software: is written into the file as its maker, where the master names none.

    Raises:
        PhotoUnsupported: the chosen format can't hold the photograph.
        ValueError: the arrays aren't those of this photograph.
    """
    if len(pixels) != len(photograph.pages):
        raise ValueError(f"{len(pixels)} arrays for {len(photograph.pages)} pages")
    scales = [_scale_of(*pair) for pair in zip(photograph.pages, pixels, strict=True)]
    kind = choose_format(photograph, output, scale=scales[0])
    notes: list[str] = []
    pages = [enlarge(*pair) for pair in zip(photograph.pages, scales, strict=True)]
    leaves = [
        Leaf(settle(page, restored, kind, notes), page)
        for page, restored in zip(pages, pixels, strict=True)
    ]
    data = _write(leaves, kind, jpeg_quality=jpeg_quality, software=software, notes=notes)
    suffix, content_type = KINDS[kind]
    return Encoded(data, suffix, content_type, tuple(dict.fromkeys(notes)))


def _write(
    leaves: Sequence[Leaf],
    kind: Format,
    *,
    jpeg_quality: int,
    software: str,
    notes: list[str],
) -> bytes:
    page, picture = leaves[0].page, leaves[0].picture
    samples, metadata = picture.samples, page.metadata
    if picture.model is not page.model:
        notes.append(f"{kind} can't hold {page.model}; {picture.model} was stored")
        metadata = replace(metadata, icc=page.profile)
    match kind:
        case "tiff":
            return tiff_writer.write(leaves, software=software, notes=notes)
        case "png":
            return png.write(samples, metadata, software=software)
        case "jpeg":
            return jpeg.write(
                picture, metadata, quality=jpeg_quality, software=software, notes=notes
            )
        case "webp":
            return webp.write(samples, metadata, notes=notes)
        case "jp2":
            assert isinstance(page.storage, Jp2Storage)  # noqa: S101 - chosen for having it
            return jp2.write(samples, metadata, page.storage)
        case _:
            assert_never(kind)


def output_suffix(photograph: Photograph, output: Output, *, scale: int = 1) -> str:
    """Return the suffix that the derivative will have, with its dot.

    Args:
        photograph: as decoded.
        output: as for `encode`.
        scale: how many times as high and wide the derivative will be.

    Raises:
        PhotoUnsupported: the chosen format can't hold the photograph.
    """
    return KINDS[choose_format(photograph, output, scale=scale)][0]


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
