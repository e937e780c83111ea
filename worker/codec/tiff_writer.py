"""TIFF files, written: samples by tifffile, then the directories anew with the master's own fields.

tifffile refuses EXIF and GPS fields and re-types the others, so each directory that it wrote is
written again at the end of the file, together with the raw fields that the page carries.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from tifffile import COMPRESSION, TiffWriter

from worker.codec import exif, ifd
from worker.codec.ifd import Directory, Field, Layout
from worker.codec.photograph import AlphaKind, Metadata, Page, Samples, TiffStorage, Unit

_LOSSLESS = {
    COMPRESSION.NONE,
    COMPRESSION.LZW,
    COMPRESSION.PACKBITS,
    COMPRESSION.ADOBE_DEFLATE,
}
_PREDICTABLE = {COMPRESSION.LZW, COMPRESSION.ADOBE_DEFLATE}
_HORIZONTAL = 2
_EXTRA_SAMPLES = {
    AlphaKind.UNSPECIFIED: "unspecified",
    AlphaKind.ASSOCIATED: "assocalpha",
    AlphaKind.STRAIGHT: "unassalpha",
}
_UNITS = {Unit.NONE: "none", Unit.INCH: "inch", Unit.CM: "centimeter"}
_BYTE, _ASCII, _UNDEFINED = 1, 2, 7
_XMP, _PHOTOSHOP, _SOFTWARE = 700, 34377, 305
_MAX_CLASSIC_BYTES = 2**32 - 2**25


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    """One page to write: `(H, W)` or `(H, W, 2..4)` samples, gray or RGB, then perhaps alpha."""

    samples: Samples
    page: Page


def write(leaves: Sequence[Leaf], *, software: str, notes: list[str]) -> bytes:
    """Encode all pages, in order."""
    layout = _choose_layout(leaves)
    plain = BytesIO()
    with TiffWriter(plain, bigtiff=layout.big, byteorder=layout.order) as file:  # type: ignore[arg-type]
        for leaf in leaves:
            file.write(leaf.samples, **_storage_of(leaf.page, notes))
            _note_losses(leaf.page.metadata, notes)
    carried = [_fields_of(leaf.page.metadata, software) for leaf in leaves]
    return _add_fields(plain.getbuffer(), carried)


def _choose_layout(leaves: Sequence[Leaf]) -> Layout:
    """Keep the master's; raw values of an EXIF block need its byte order."""
    first = leaves[0].page
    if first.storage is not None:
        layout = first.storage.layout
    elif first.metadata.exif is not None:
        layout = exif.fields_of(first.metadata.exif)[1]
    else:
        layout = Layout("<")
    large = sum(leaf.samples.nbytes for leaf in leaves) > _MAX_CLASSIC_BYTES
    return Layout(layout.order, big=layout.big or large)


def _storage_of(page: Page, notes: list[str]) -> dict[str, Any]:
    """Return tifffile's arguments for one page."""
    storage = page.storage
    compression, predictor, tile = COMPRESSION.ADOBE_DEFLATE, _HORIZONTAL, None
    if storage is not None:
        compression, predictor, tile = _choose_compression(storage, notes)
    arguments: dict[str, Any] = {
        "photometric": "minisblack" if page.gray else "rgb",
        "planarconfig": None if page.gray and page.alpha is None else "contig",
        "compression": compression,
        "predictor": predictor,
        "tile": tile,
        "iccprofile": page.metadata.icc,
        "metadata": None,
        "software": False,
        "contiguous": False,
    }
    if page.alpha is not None:
        arguments["extrasamples"] = [_EXTRA_SAMPLES[page.alpha.kind]]
    resolution = page.metadata.resolution
    if resolution is not None:
        arguments["resolution"] = (
            exif.fit_rational(resolution.x),
            exif.fit_rational(resolution.y),
        )
        arguments["resolutionunit"] = _UNITS[resolution.unit]
    return arguments


def _choose_compression(
    storage: TiffStorage, notes: list[str]
) -> tuple[COMPRESSION, int, tuple[int, int] | None]:
    """Keep what is lossless; a lossy page is stored with deflate."""
    tile = storage.tile
    if tile is not None and (tile[0] % 16 or tile[1] % 16):
        tile = None
    if storage.compression not in _LOSSLESS | {COMPRESSION.DEFLATE}:
        notes.append("the TIFF compression was changed to deflate")
        return COMPRESSION.ADOBE_DEFLATE, _HORIZONTAL, tile
    compression = COMPRESSION(storage.compression)
    if compression == COMPRESSION.DEFLATE:  # the same stream under its old number
        compression = COMPRESSION.ADOBE_DEFLATE
    predictor = _HORIZONTAL if storage.predictor != 1 and compression in _PREDICTABLE else 1
    return compression, predictor, tile


def _note_losses(metadata: Metadata, notes: list[str]) -> None:
    if metadata.chunks:
        notes.append("TIFF has no place for the PNG file's own chunks")
    if metadata.comments:
        notes.append("TIFF has no place for the file's comments")


def _fields_of(metadata: Metadata, software: str) -> Directory:
    fields = exif.fields_of(metadata.exif)[0] if metadata.exif else {}
    fields = {code: field for code, field in fields.items() if code != exif.ORIENTATION}
    text = software.encode("ascii", "replace") + b"\0"
    fields[_SOFTWARE] = Field(_SOFTWARE, _ASCII, len(text), text)
    if metadata.xmp:
        fields[_XMP] = Field(_XMP, _BYTE, len(metadata.xmp), metadata.xmp)
    if metadata.photoshop:
        block = metadata.photoshop
        fields[_PHOTOSHOP] = Field(_PHOTOSHOP, _UNDEFINED, len(block), block)
    return fields


def _add_fields(plain: bytes | memoryview, carried: Sequence[Directory]) -> bytes:
    """Write every directory again, with the carried fields, behind the samples."""
    out = bytearray(plain)
    layout, link_at = ifd.read_header(bytes(out[:16]))
    for fields in carried:
        written = ifd.unpack(out, ifd.follow(out, link_at, layout), layout)
        merged = fields | written.fields
        out += bytes(len(out) % 2)
        at = len(out)
        out += ifd.pack(merged.values(), at=at, layout=layout)
        out[link_at : link_at + layout.offset.size] = layout.offset.pack(at)
        # The next directory is still reached through the old one's link.
        link_at = at + layout.count.size + len(merged) * layout.entry.size
        out[link_at : link_at + layout.offset.size] = layout.offset.pack(
            ifd.follow(out, written.link_at, layout)
        )
    return bytes(out)
