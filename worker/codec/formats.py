"""Which format a derivative gets: decided by the master's kind and the recipe, before any pixel."""

from jobs.errors import PhotoUnsupported
from jobs.recipe import Output
from worker.codec import jpeg, webp
from worker.codec.native import name_special
from worker.codec.photograph import (
    AlphaKind,
    Container,
    Jp2Storage,
    Photograph,
    WebpStorage,
)
from worker.codec.settle import Format

KINDS: dict[Format, tuple[str, str]] = {
    "png": (".png", "image/png"),
    "tiff": (".tif", "image/tiff"),
    "jpeg": (".jpg", "image/jpeg"),
    "webp": (".webp", "image/webp"),
    "jp2": (".jp2", "image/jp2"),
}
"""Suffix and media type of each."""


def choose_format(photograph: Photograph, output: Output, *, scale: int) -> Format:
    """Return the format for a photograph whose sides become `scale` times as long.

    Raises:
        PhotoUnsupported: the chosen format can't hold it.
    """
    first = photograph.pages[0]
    return format_of(
        photograph.container,
        output,
        pages=len(photograph.pages),
        alpha=first.alpha.kind if first.alpha else None,
        longest_px=max(first.pixels.shape[:2]) * scale,
        special=name_special(first.model, is_float=first.own.dtype.kind == "f"),
        lossless=isinstance(first.storage, WebpStorage | Jp2Storage),
    )


def format_of(
    container: Container,
    output: Output,
    *,
    pages: int,
    alpha: AlphaKind | None,
    longest_px: int,
    special: str = "",
    lossless: bool = False,
) -> Format:
    """Return the format of a derivative.

    Args:
        container: the master's.
        output: as for `encode`.
        pages: how many there are.
        alpha: what an alpha channel of the first page means, None where it has none.
        longest_px: the derivative's longest side.
        special: what of its samples only TIFF can hold.
        lossless: whether a WebP master was stored without loss, or a JPEG 2000 one reversibly.

    Raises:
        PhotoUnsupported: the chosen format can't hold it.
    """
    if alpha is AlphaKind.ASSOCIATED:
        special = special or "associated alpha unchanged"
    if output == "same":
        if lossless and container is Container.JP2:
            return "jp2"
        if lossless and longest_px <= webp.MAX_SIDE_PX:
            return "webp"
        return "tiff" if container is Container.TIFF or special else "png"
    if output != "tiff" and pages > 1:
        raise PhotoUnsupported(f"{output} can't hold {pages} pages; choose same or tiff")
    if output == "png" and special:
        raise PhotoUnsupported(f"png can't hold {special}; choose same or tiff")
    if output == "jpeg" and longest_px > jpeg.MAX_SIDE_PX:
        raise PhotoUnsupported(f"jpeg ends at {jpeg.MAX_SIDE_PX} pixels a side; choose tiff")
    return output
