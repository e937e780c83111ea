"""How a TIFF page's samples are stored again: as the master's were, wherever that loses nothing.

In: a page to write. Out: tifffile's data and arguments. What has to differ is said in `notes`.
"""

from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tifffile import COMPRESSION, PHOTOMETRIC, TiffFile

from worker.codec.ifd import Layout
from worker.codec.native import ColourModel
from worker.codec.photograph import AlphaKind, Page, TiffStorage
from worker.codec.settle import Picture
from worker.codec.tiff_samples import offset_lab
from worker.scratch import Space, bands

_ANYTHING = {
    COMPRESSION.NONE,
    COMPRESSION.LZW,
    COMPRESSION.PACKBITS,
    COMPRESSION.ADOBE_DEFLATE,
    COMPRESSION.DEFLATE,
    COMPRESSION.ZSTD,
    COMPRESSION.LZMA,
}
_PREDICTABLE = _ANYTHING - {COMPRESSION.NONE, COMPRESSION.PACKBITS}
_BILEVEL: dict[int, str] = {
    COMPRESSION.CCITTRLE: "tiff_ccitt",
    COMPRESSION.CCITTFAX3: "group3",
    COMPRESSION.CCITTFAX4: "group4",
}
"""With Pillow's names: it alone encodes them."""
_HORIZONTAL, _FLOATING = 2, 3
_SEPARATE = 2
_TILE_STEP_PX = 16
_WHOLE_BYTE = 8
_WITH_CHANNELS = 3  # dimensions
_LONGEST_STRIP_BYTES = 64 << 20
_AT_A_TIME_BYTES = 64 << 20
"""So much is compressed at a time, by several threads."""
_LERC_TYPES = (np.uint8, np.uint16, np.float32)
_WEBP_CHANNELS = {3, 4}
_PHOTOMETRICS = {
    ColourModel.GRAY: PHOTOMETRIC.MINISBLACK,
    ColourModel.INVERTED_GRAY: PHOTOMETRIC.MINISWHITE,
    ColourModel.RGB: PHOTOMETRIC.RGB,
    ColourModel.CMYK: PHOTOMETRIC.SEPARATED,
    ColourModel.LAB: PHOTOMETRIC.CIELAB,
}
_EXTRA_SAMPLES = {
    AlphaKind.UNSPECIFIED: "unspecified",
    AlphaKind.ASSOCIATED: "assocalpha",
    AlphaKind.STRAIGHT: "unassalpha",
}


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    """One page to write: its samples, and what else it carries."""

    picture: Picture
    page: Page

    @property
    def storage(self) -> TiffStorage | None:
        """How the master stored it, where that was a TIFF file."""
        return self.page.storage if isinstance(self.page.storage, TiffStorage) else None

    @property
    def is_as_stored(self) -> bool:
        """Whether samples of the master's own kind are written."""
        storage, picture = self.storage, self.picture
        if storage is None or picture.model is not self.page.model:
            return False
        return storage.bits == picture.bits and storage.photometric == self.photometric

    @property
    def compression(self) -> int | None:
        """The number that the directory has to tell where tifffile was told another."""
        storage = self.storage
        if storage is None or not self.is_as_stored:
            return None
        retold = {COMPRESSION.DEFLATE, *_BILEVEL}
        return storage.compression if storage.compression in retold else None

    @property
    def is_separate(self) -> bool:
        """Whether each channel lies alone."""
        storage = self.storage
        is_one = len(self.picture.shape) < _WITH_CHANNELS
        return storage is not None and storage.planar == _SEPARATE and not is_one

    @property
    def photometric(self) -> int:
        """What the channels mean, in TIFF's numbers."""
        storage = self.storage
        if self.picture.model is ColourModel.LAB and storage is not None:
            return storage.photometric
        return _PHOTOMETRICS[self.picture.model]


def store(leaf: Leaf, layout: Layout, space: Space, notes: list[str]) -> dict[str, Any]:
    """Return the arguments for `TiffWriter.write`."""
    page, shape = leaf.page, leaf.picture.shape
    arguments: dict[str, Any] = {
        "photometric": leaf.photometric,
        "iccprofile": page.metadata.icc,
        "metadata": None,
        "software": False,
        "contiguous": False,
        "buffersize": _AT_A_TIME_BYTES,
    }
    if page.alpha is not None:
        arguments["extrasamples"] = [_EXTRA_SAMPLES[page.alpha.kind]]
    arguments |= _compress(leaf, notes)
    arguments |= _cut(leaf, arguments["compression"], notes)
    samples = _gather(leaf, layout, space)
    if samples.dtype == np.bool_:
        return arguments | _store_bits(samples, arguments)
    if len(shape) == _WITH_CHANNELS:
        arguments["planarconfig"] = "separate" if leaf.is_separate else "contig"
    if arguments["compression"] == COMPRESSION.NONE and "tile" not in arguments:
        parts = (samples[rows] for rows in bands(samples))
        return arguments | {"data": parts, "shape": samples.shape, "dtype": samples.dtype}
    return arguments | {"data": samples}


def _gather(leaf: Leaf, layout: Layout, space: Space) -> NDArray[Any]:
    """Return a page's samples in the order of the file, in which nothing copies them again."""
    picture, shape = leaf.picture, leaf.picture.shape
    dtype = np.dtype(np.bool_) if picture.bits < _WHOLE_BYTE else picture.dtype
    ordered = space.empty(
        (shape[2], *shape[:2]) if leaf.is_separate else shape,
        dtype.newbyteorder("<" if layout.order == "<" else ">"),
    )
    samples = np.moveaxis(ordered, 0, 2) if leaf.is_separate else ordered
    for rows in bands(samples):
        part = picture.rows(rows)
        samples[rows] = offset_lab(part) if leaf.photometric == PHOTOMETRIC.CIELAB else part
    return ordered


def _compress(leaf: Leaf, notes: list[str]) -> dict[str, Any]:
    """Keep what is lossless; all else is stored with deflate."""
    storage, floats = leaf.storage, leaf.picture.dtype.kind == "f"
    best = _FLOATING if floats else _HORIZONTAL
    if leaf.picture.bits < _WHOLE_BYTE:
        best = 1
    if storage is None:
        return {"compression": COMPRESSION.ADOBE_DEFLATE, "predictor": best}
    if not (storage.lossless and _can_keep(leaf, storage)):
        notes.append("the TIFF compression was changed to deflate")
        return {"compression": COMPRESSION.ADOBE_DEFLATE, "predictor": best}
    compression = COMPRESSION(storage.compression)
    if compression is COMPRESSION.DEFLATE:  # the same stream under its old number
        compression = COMPRESSION.ADOBE_DEFLATE
    predicted = storage.predictor != 1 and compression in _PREDICTABLE
    arguments: dict[str, Any] = {"compression": compression, "predictor": best if predicted else 1}
    if compression is COMPRESSION.WEBP:
        arguments["compressionargs"] = {"lossless": True}
    return arguments


def _can_keep(leaf: Leaf, storage: TiffStorage) -> bool:
    picture = leaf.picture
    if picture.bits < _WHOLE_BYTE:
        return storage.compression in _ANYTHING or storage.compression in _BILEVEL
    if storage.compression == COMPRESSION.WEBP:
        channels = picture.shape[2] if len(picture.shape) == _WITH_CHANNELS else 1
        return picture.dtype == np.uint8 and channels in _WEBP_CHANNELS
    if storage.compression == COMPRESSION.LERC:
        return picture.dtype in _LERC_TYPES and storage.layout.order == "<"
    return storage.compression in _ANYTHING


def _cut(leaf: Leaf, compression: int, notes: list[str]) -> dict[str, Any]:
    """Keep tiles or strips; a strip is compressed as a whole, so the longest ones are cut."""
    storage, picture = leaf.storage, leaf.picture
    if storage is None:
        return {}
    if storage.tile is None:
        rows = max(1, min(storage.rows_per_strip, picture.shape[0]))
        planes = picture.shape[2] if leaf.is_separate else 1
        most = max(1, _LONGEST_STRIP_BYTES * picture.shape[0] * planes // picture.size_bytes)
        if rows > most and compression != COMPRESSION.NONE:
            notes.append("compressed strips of many megabytes were cut into smaller ones")
            rows = most
        return {"rowsperstrip": rows}
    if any(side % _TILE_STEP_PX for side in storage.tile):
        notes.append("tiles whose sides aren't multiples of 16 were stored as strips")
        return {}
    return {"tile": storage.tile}


def _store_bits(samples: NDArray[Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments for a bilevel page, whose strips Pillow compresses where it must."""
    name = _BILEVEL.get(arguments["compression"])
    if name is None:
        return {"data": samples}
    height = samples.shape[0]
    rows = min(arguments.get("rowsperstrip", height), height)
    data = (_encode_bits(samples[top : top + rows], name) for top in range(0, height, rows))
    stored = {"data": data, "shape": samples.shape, "dtype": np.bool_, "rowsperstrip": rows}
    # tifffile knows no such compression of bits: it is told another, which the writer sets right.
    return stored | {"tile": None, "compression": COMPRESSION.PACKBITS}


def _encode_bits(samples: NDArray[Any], name: str) -> bytes:
    """Compress one strip: written as a file of one strip, of which the data is taken."""
    out = BytesIO()
    bits = Image.fromarray(samples)
    bits.save(out, "TIFF", compression=name, strip_size=samples.size)
    out.seek(0)
    with TiffFile(out) as file:
        page = file.pages.first
        assert len(page.dataoffsets) == 1  # noqa: S101 - asked for
        at = page.dataoffsets[0]
        return out.getvalue()[at : at + page.databytecounts[0]]
