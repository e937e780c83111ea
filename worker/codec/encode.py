"""Encodes a derivative: a `Photograph` and its restored pixels in, a complete file out.

Lossless output has the master's depth, channels and pages, and its samples wherever the restored
pixels are the master's. Pixels that were enlarged keep the size of a print.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import BinaryIO, assert_never

from jobs.recipe import Output
from worker.codec import jp2, jp2_boxes, jpeg, png, tiff_writer, webp
from worker.codec.enlarge import enlarge
from worker.codec.formats import KINDS, choose_format, format_of
from worker.codec.photograph import Encoded, Jp2Storage, Page, Photograph
from worker.codec.settle import Format, Restored, settle
from worker.codec.tiff_storage import Leaf
from worker.scratch import DEFAULT, Scratch, writing

__all__ = ["Format", "encode", "format_of", "output_suffix"]


def encode(
    photograph: Photograph,
    restored: Sequence[Restored],
    *,
    output: Output,
    jpeg_quality: int,
    software: str,
    scratch: Scratch = DEFAULT,
) -> Encoded:
    """Encode the derivative of a photograph.

    Args:
        photograph: as decoded.
        restored: for each page pixels of the type and shape of `Page.pixels`, or a whole number
            of times as high and wide.
        output: "same" keeps lossless containers where they hold everything; all others become PNG,
            or TIFF where PNG can't hold them.
        jpeg_quality: 1 to 100, for "jpeg" only.
        software: is written into the file as its maker, where the master names none.
        scratch: room for the file, and for what is written to it.

    Raises:
        PhotoUnsupported: the chosen format can't hold the photograph.
        ScratchFull: there is no room.
        ValueError: the pixels aren't those of this photograph.
    """
    if len(restored) != len(photograph.pages):
        raise ValueError(f"{len(restored)} restored pages for {len(photograph.pages)}")
    scales = [_scale_of(*pair) for pair in zip(photograph.pages, restored, strict=True)]
    kind = choose_format(photograph, output, scale=scales[0])
    notes: list[str] = []
    pages = [enlarge(*pair, notes) for pair in zip(photograph.pages, scales, strict=True)]
    leaves = [
        Leaf(settle(page, made, kind, notes), page)
        for page, made in zip(pages, restored, strict=True)
    ]
    size_bytes = sum(leaf.picture.size_bytes for leaf in leaves)
    file = scratch.file(size_bytes)
    with writing(size_bytes):
        _write(file, leaves, kind, scratch, jpeg_quality, software=software, notes=notes)
        file.flush()
    suffix, content_type = KINDS[kind]
    return Encoded(file, suffix, content_type, tuple(dict.fromkeys(notes)))


def _write(
    target: BinaryIO,
    leaves: Sequence[Leaf],
    kind: Format,
    scratch: Scratch,
    jpeg_quality: int,
    *,
    software: str,
    notes: list[str],
) -> None:
    page, picture = leaves[0].page, leaves[0].picture
    metadata = page.metadata
    if picture.model is not page.model:
        notes.append(f"{kind} can't hold {page.model}; {picture.model} was stored")
        metadata = replace(metadata, icc=page.profile)
    if isinstance(page.storage, Jp2Storage) and kind != "jp2":
        notes += jp2_boxes.name_others(page.storage.boxes)
    if kind == "tiff":
        tiff_writer.write(target, leaves, scratch, software=software, notes=notes)
        return
    samples = picture.whole(scratch)
    match kind:
        case "png":
            png.write(target, samples, metadata, scratch, software=software, notes=notes)
        case "jpeg":
            quality = jpeg_quality
            data = jpeg.write(
                samples, picture.model, metadata, quality=quality, software=software, notes=notes
            )
            target.write(data)
        case "webp":
            target.write(webp.write(samples, metadata, notes=notes))
        case "jp2":
            assert isinstance(page.storage, Jp2Storage)  # noqa: S101 - chosen for having it
            target.write(jp2.write(samples, metadata, page.storage))
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


def _scale_of(page: Page, restored: Restored) -> int:
    """Return how many times as high and wide as the master the restored pixels are."""
    height, width, channels = page.pixels.shape
    scale: int = restored.shape[0] // height
    expected = (height * scale, width * scale, channels)
    if not scale or restored.shape != expected or restored.dtype != page.pixels.dtype:
        raise ValueError(
            f"restored pixels {restored.shape} {restored.dtype} "
            f"for a page {page.pixels.shape} {page.pixels.dtype}"
        )
    return scale
