"""What the channels of a JPEG 2000 picture mean, and in which order they lie.

In: the boxes of a file's header. Out: `Channels`. Sources: ISO/IEC 15444-1, I.5.3.3 and I.5.3.6.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.errors import PhotoUnsupported
from worker.codec.jp2_boxes import Box, find, find_colour
from worker.codec.photograph import AlphaKind

_GRAY, _RGB = 1, 3
_ENUMERATED, _COLOURS_OF_SPACES = 1, {16: _RGB, 17: _GRAY}  # sRGB and gray
_SPACE, _COLOURS_OF_PROFILES = slice(16, 20), {b"RGB ": _RGB, b"GRAY": _GRAY}  # ICC.1:2022, 7.2
_MARK, _PROFILE_MARK = slice(36, 40), b"acsp"
_DEFINITION = struct.Struct(">HHH")  # channel, what it is, of which colour
_COLOUR, _WHOLE_PICTURE = 0, 0
_ALPHA_KINDS = {1: AlphaKind.STRAIGHT, 2: AlphaKind.ASSOCIATED, 65535: AlphaKind.UNSPECIFIED}


@dataclass(frozen=True, slots=True)
class Channels:
    """The channels of a picture.

    Attributes:
        colours: 1 for gray, 3 for RGB.
        order: which of the stored channels is the first colour, the next, and at last alpha.
        alpha: what a channel beside the colours means, None where there is none.
    """

    colours: int
    order: tuple[int, ...]
    alpha: AlphaKind | None


def read_channels(header: Sequence[Box], number: int) -> Channels:
    """Return what so many channels are.

    Raises:
        PhotoUnsupported: they are something else than gray or RGB, perhaps with one alpha channel.
    """
    colours = _count_colours(find_colour(header), number)
    definitions = find(header, b"cdef")
    if definitions:
        return _read_definitions(definitions[2:], colours, number)
    alpha = AlphaKind.UNSPECIFIED if number > colours else None
    return Channels(colours, tuple(range(number)), alpha)


def _count_colours(colour: bytes, number: int) -> int:
    """Compare the number of channels with what a colour specification tells."""
    colours = _GRAY if number < _RGB else _RGB
    told = _read_colours(colour)
    if told not in {None, colours} and number > 1:
        raise PhotoUnsupported(f"JPEG 2000 with {number} channels for {told} colours")
    return colours


def _read_colours(colour: bytes) -> int | None:
    """Return how many colours a specification has, None where it tells nothing."""
    content = colour[3:]
    if colour[:1] == bytes((_ENUMERATED,)):
        told = _COLOURS_OF_SPACES.get(int.from_bytes(content[:4]))
    elif content[_MARK] == _PROFILE_MARK:
        told = _COLOURS_OF_PROFILES.get(content[_SPACE])
    else:
        return None
    if told is None:
        raise PhotoUnsupported("JPEG 2000 with colours other than RGB or gray isn't supported")
    return told


def _read_definitions(body: bytes, colours: int, number: int) -> Channels:
    whole = len(body) // _DEFINITION.size * _DEFINITION.size
    defined = sorted(_DEFINITION.iter_unpack(body[:whole]))
    if [channel for channel, _, _ in defined] != list(range(number)):
        raise PhotoUnsupported("JPEG 2000 that doesn't define each channel once isn't supported")
    places = {colour: channel for channel, kind, colour in defined if kind == _COLOUR}
    others = [one for one in defined if one[1] != _COLOUR]
    if sorted(places) != list(range(1, colours + 1)) or len(others) != number - colours:
        raise PhotoUnsupported("JPEG 2000 with channels other than RGB, gray and alpha")
    order = tuple(places[colour] for colour in sorted(places))
    if not others:
        return Channels(colours, order, None)
    ((channel, kind, of_colour),) = others
    alpha = _ALPHA_KINDS.get(kind)
    if alpha is None or (alpha is not AlphaKind.UNSPECIFIED and of_colour != _WHOLE_PICTURE):
        raise PhotoUnsupported("JPEG 2000 with an alpha channel of one colour isn't supported")
    return Channels(colours, (*order, channel), alpha)
