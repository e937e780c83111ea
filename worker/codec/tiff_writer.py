"""TIFF files, written: samples by tifffile, then the directories anew with the master's own fields.

tifffile refuses EXIF and GPS fields and re-types the others, so each directory that it wrote is
written again at the end of the file, together with the raw fields that the page carries.
"""

import struct
from collections.abc import Sequence
from typing import BinaryIO

from tifffile import TiffWriter

from worker.codec import exif, ifd
from worker.codec.exif import RESOLUTION_UNIT, X_RESOLUTION, Y_RESOLUTION
from worker.codec.ifd import Directory, Field, Layout
from worker.codec.photograph import Metadata, Resolution, Unit
from worker.codec.stored import FileBytes
from worker.codec.tiff_fields import DESCRIPTION, is_stale
from worker.codec.tiff_storage import Leaf, store
from worker.scratch import Space

_UNITS = {Unit.NONE: 1, Unit.INCH: 2, Unit.CM: 3}
_BYTE, _ASCII, _SHORT, _RATIONAL, _UNDEFINED = 1, 2, 3, 5, 7
_XMP, _PHOTOSHOP, _IPTC, _SOFTWARE, _COMPRESSION = 700, 34377, 33723, 305, 259
_MAX_CLASSIC_BYTES = 2**32 - 2**25


def write(
    target: BinaryIO, leaves: Sequence[Leaf], space: Space, *, software: str, notes: list[str]
) -> None:
    """Encode all pages, one after the other."""
    layout = _choose_layout(leaves, notes)
    with TiffWriter(target, bigtiff=layout.big, byteorder=layout.order) as file:  # type: ignore[arg-type]
        for leaf in leaves:
            file.write(**store(leaf, layout, space, notes))
            _note_losses(leaf.page.metadata, notes)
    _add_fields(target, [_fields_of(leaf, layout, software, notes) for leaf in leaves])


def _choose_layout(leaves: Sequence[Leaf], notes: list[str]) -> Layout:
    """Keep the master's; raw values of an EXIF block need its byte order."""
    first = leaves[0]
    if first.storage is not None:
        layout = first.storage.layout
    elif first.page.metadata.exif is not None:
        layout = exif.fields_of(first.page.metadata.exif)[1]
    else:
        layout = Layout("<")
    if sum(leaf.picture.size_bytes for leaf in leaves) <= _MAX_CLASSIC_BYTES:
        return layout
    if not layout.big:
        notes.append("a file this large has to be BigTIFF")
    return Layout(layout.order, big=True)


def _note_losses(metadata: Metadata, notes: list[str]) -> None:
    if metadata.chunks:
        notes.append("TIFF has no place for the PNG file's own chunks")
    if metadata.comments:
        notes.append("TIFF has no place for the file's comments")


def _fields_of(leaf: Leaf, layout: Layout, software: str, notes: list[str]) -> Directory:
    """Return the fields of a page beside those that say how its samples are stored."""
    metadata = leaf.page.metadata
    fields = dict(exif.fields_of(metadata.exif)[0]) if metadata.exif else {}
    if leaf.storage is not None and leaf.is_as_stored:
        fields |= leaf.storage.fields
    if leaf.compression is not None:
        number = struct.pack(layout.order + "H", leaf.compression)
        fields[_COMPRESSION] = Field(_COMPRESSION, _SHORT, 1, number)
    if is_stale(fields.get(DESCRIPTION), leaf.picture.shape):
        del fields[DESCRIPTION]
        notes.append("tifffile's own note of the master's shape was left out")
    if exif.read_resolution(fields, layout) != metadata.resolution and metadata.resolution:
        fields |= _resolution_fields(metadata.resolution, layout)
    text = software.encode("ascii", "replace") + b"\0"
    fields.setdefault(_SOFTWARE, Field(_SOFTWARE, _ASCII, len(text), text))
    if metadata.xmp:
        fields[_XMP] = Field(_XMP, _BYTE, len(metadata.xmp), metadata.xmp)
    if metadata.photoshop:
        block = metadata.photoshop
        fields[_PHOTOSHOP] = Field(_PHOTOSHOP, _UNDEFINED, len(block), block)
    if metadata.iptc:
        record = metadata.iptc
        fields.setdefault(_IPTC, Field(_IPTC, _UNDEFINED, len(record), record))
    return fields


def _resolution_fields(resolution: Resolution, layout: Layout) -> Directory:
    fields = [
        Field(code, _RATIONAL, 1, struct.pack(layout.order + "II", *exif.fit_rational(value)))
        for code, value in ((X_RESOLUTION, resolution.x), (Y_RESOLUTION, resolution.y))
    ]
    unit = struct.pack(layout.order + "H", _UNITS[resolution.unit])
    return {field.code: field for field in (*fields, Field(RESOLUTION_UNIT, _SHORT, 1, unit))}


def _add_fields(target: BinaryIO, carried: Sequence[Directory]) -> None:
    """Write every directory again, with the carried fields, behind the samples."""
    layout, link_at = ifd.read_header(FileBytes(target))
    for fields in carried:
        plain = FileBytes(target)
        written = ifd.unpack(plain, ifd.follow(plain, link_at, layout), layout)
        following = ifd.follow(plain, written.link_at, layout)
        merged = _merge(written.fields, fields)
        at = len(plain) + len(plain) % 2
        _write_at(target, at, ifd.pack(merged.values(), at=at, layout=layout))
        _write_at(target, link_at, layout.offset.pack(at))
        # The next directory is still reached through the old one's link.
        link_at = at + layout.count.size + len(merged) * layout.entry.size
        _write_at(target, link_at, layout.offset.pack(following))


def _write_at(target: BinaryIO, at: int, data: bytes) -> None:
    target.seek(at)
    target.write(data)


def _merge(written: Directory, carried: Directory) -> Directory:
    """Let tifffile say how samples are stored, and nothing else: it makes resolutions up."""
    made_up = {X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT}
    structure = {code: field for code, field in written.items() if code not in made_up}
    merged = carried | structure
    return merged | {code: carried[code] for code in {_COMPRESSION} & carried.keys()}
