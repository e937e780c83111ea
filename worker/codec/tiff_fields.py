"""Which fields of a TIFF page are carried over, and as what.

In: a directory as read, values as raw bytes. Out: the page's `Metadata`, and the fields that are
true only as long as its samples are stored in the same way.
"""

import json
import math

from worker.codec import exif
from worker.codec.ifd import Directory, Field, Layout
from worker.codec.photograph import Metadata

ICC = 34675
DESCRIPTION = 270
_XMP, _PHOTOSHOP, _IPTC = 700, 34377, 33723
SUB_IFDS, LAYERS = 330, 37724
"""Reduced copies, and Photoshop's layers: they would show the picture before."""
# What describes how samples are stored: written anew, never copied.
_STRUCTURE = frozenset(
    (
        *range(256, 263),
        *(266, 273, 277, 278, 279, 284),
        *range(288, 290),
        *(292, 293, 317, 320),
        *range(322, 326),
        *(SUB_IFDS, 338, 339, 347),
        *range(512, 531),
        *(559, 32997, 32998, 50674, _XMP, _PHOTOSHOP, ICC, LAYERS),
    )
)
# True of samples of one kind: thresholding, extremes, gray curves, inks, the range of floats.
_OF_SAMPLES = frozenset(
    (*range(263, 266), 280, 281, 290, 291, 301, *range(332, 338), 340, 341, 342, 532)
)
# A reader that finds something else there than a number may give up on the whole file.
_KINDS_OF_PAGE, _INTEGERS = {254, 255}, {3, 4}
_LAST_CLASSIC_TYPE = 12  # 13 points to a directory
_SHAPE = b'{"shape":'
_IPTC_MARK = b"\x1c"


def read_metadata(fields: Directory, layout: Layout) -> Metadata:
    """Return what a page carries, all of it in a form that every writer understands."""

    def raw(code: int) -> bytes | None:
        field = fields.get(code)
        return field.value if field is not None and isinstance(field.value, bytes) else None

    left_out = _STRUCTURE | _OF_SAMPLES
    kept = {code: field for code, field in _readable(fields).items() if code not in left_out}
    iptc = raw(_IPTC)
    return Metadata(
        icc=raw(ICC),
        exif=exif.build(kept, layout) if kept else None,
        xmp=raw(_XMP),
        photoshop=raw(_PHOTOSHOP),
        iptc=iptc if iptc is not None and iptc.startswith(_IPTC_MARK) else None,
        resolution=exif.read_resolution(fields, layout),
    )


def fields_of_samples(fields: Directory) -> Directory:
    """Return the fields that go only with samples stored in the same way."""
    return {code: field for code, field in fields.items() if code in _OF_SAMPLES}


def is_stale(description: Field | None, shape: tuple[int, ...]) -> bool:
    """Tell whether a description is tifffile's own note of an array, and of another one."""
    if description is None or not is_note_of_shape(description):
        return False
    value = description.value
    try:
        noted = json.loads(bytes(value).rstrip(b"\0"))["shape"]
        return bool(math.prod(noted) % math.prod(shape))
    except (ValueError, TypeError, KeyError):
        return True


def is_note_of_shape(description: Field | None) -> bool:
    """Tell whether a description is what tifffile writes for itself."""
    value = description.value if description is not None else None
    return isinstance(value, bytes) and value.startswith(_SHAPE)


def _readable(fields: Directory) -> Directory:
    return {
        code: field
        for code, field in fields.items()
        if (field.type <= _LAST_CLASSIC_TYPE or not isinstance(field.value, bytes))
        and (code not in _KINDS_OF_PAGE or (field.type in _INTEGERS and field.count == 1))
    }
