"""Long XMP packets of JPEG files: what one segment can't hold lies in an extension.

In: a packet, and the extension's parts. Out: one packet that has all properties, and the other way
round. Both come from outside, and are parsed as such.
Source: XMP Specification, Part 3 (2020), 1.1.3.1.
"""

import hashlib
import re
import struct
from collections.abc import Iterator, Sequence

from lxml import etree

from worker.codec import xmp_packet

_PART = struct.Struct(">32sII")  # the extension's MD5 in hexadecimal, its length, this part's place
_PART_BYTES = 65_400
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_ABOUT = f"{_RDF}about"
_XMPMETA = "{adobe:ns:meta/}xmpmeta"
_NOTE = "http://ns.adobe.com/xmp/note/"
_POINTER = f"{{{_NOTE}}}HasExtendedXMP"
_POINTED = re.compile(rb"xmpNote:HasExtendedXMP(?:\s*=\s*[\"']|(?:\s[^<>]*)?>)\s*([0-9A-Fa-f]{32})")
_POINTERS = re.compile(
    rb"\sxmpNote:HasExtendedXMP\s*=\s*(?:\"[^\"]*\"|'[^']*')"
    rb"|<xmpNote:HasExtendedXMP(?:\s[^<>]*)?>[^<]*</xmpNote:HasExtendedXMP>\s*"
)
_END_OF_PROPERTIES = re.compile(rb"</(?:[\w.-]+:)?RDF\s*>")
_MOST_POINTER_BYTES = 200
"""What pointing to an extension takes, with its namespace."""
_LONG_ATTRIBUTE = 1000
_PADDING = b"\0 \t\r\n"


class _DamagedError(ValueError):
    """The extension isn't what the packet says."""


def join(packet: bytes, parts: Sequence[bytes], notes: list[str]) -> bytes:
    """Return one packet with the properties of its extension.

    Args:
        packet: the main packet, which stays as it is wherever nothing is added.
        parts: of the extension, in any order, as in the segments behind their name.
        notes: is appended to, where the extension can't be read.
    """
    pointed = _POINTED.search(packet)
    if pointed is None and not parts:
        return packet
    alone = _POINTERS.sub(b"", packet)
    try:
        if pointed is None:
            raise _DamagedError
        return _insert(alone, _assemble(parts, pointed[1]))
    except (_DamagedError, etree.XMLSyntaxError):
        notes.append("the extended part of a long XMP packet can't be read and was left out")
        return alone


def _assemble(parts: Sequence[bytes], digest: bytes) -> bytes:
    """Put the parts that belong to a packet one behind the other."""
    placed: dict[int, bytes] = {}
    total = 0
    for part in parts:
        if len(part) > _PART.size and part[:32].upper() == digest.upper():
            _, total, at = _PART.unpack_from(part)
            placed[at] = part[_PART.size :]
    extension = b"".join(placed[at] for at in sorted(placed))
    if len(extension) != total or _digest(extension) != digest.decode().upper():
        raise _DamagedError
    return extension


def _insert(packet: bytes, extension: bytes) -> bytes:
    """Add an extension's descriptions behind those of a packet."""
    found = _descriptions(_parse(extension))
    added = b"".join(etree.tostring(one, with_tail=False) for one in found)
    ends = list(_END_OF_PROPERTIES.finditer(packet))
    if not ends:
        raise _DamagedError
    at = ends[-1].start()
    joined = packet[:at] + added + packet[at:]
    _parse(joined.strip(_PADDING))
    return joined


def split(packet: bytes, room_bytes: int) -> tuple[bytes, list[bytes]] | None:
    """Return a packet of at most so many bytes, and the parts of an extension with the rest.

    The largest properties leave first. None where there is no way to do it.
    """
    try:
        root = _parse(packet.strip(_PADDING))
    except (_DamagedError, etree.XMLSyntaxError):
        return None
    first = next(_descriptions(root), None)
    if first is None:
        return None
    outside = etree.Element(_XMPMETA, nsmap={"x": "adobe:ns:meta/"})
    resources = etree.SubElement(outside, f"{_RDF}RDF", nsmap={"rdf": _RDF[1:-1]})
    moved = etree.SubElement(resources, first.tag, {_ABOUT: first.get(_ABOUT, "")})
    _move_largest(root, moved, room_bytes - _MOST_POINTER_BYTES)
    extension = etree.tostring(outside)
    etree.SubElement(first, _POINTER, nsmap={"xmpNote": _NOTE}).text = _digest(extension)
    main = _write(root)
    return (main, _cut(extension)) if len(main) <= room_bytes else None


def _move_largest(root: etree._Element, target: etree._Element, room_bytes: int) -> None:
    """Move properties until what is left has room."""
    left_bytes = len(_write(root))
    for size, element in sorted(_properties(root), key=lambda one: one[0], reverse=True):
        if left_bytes <= room_bytes:
            left_bytes = len(_write(root))  # declarations of namespaces were counted as moved
        if left_bytes <= room_bytes:
            return
        target.append(element)
        left_bytes -= size


def _properties(root: etree._Element) -> Iterator[tuple[int, etree._Element]]:
    """Yield each property as an element, which a long attribute becomes, and how long it is."""
    for description in _descriptions(root):
        for name, value in description.attrib.items():
            if len(value) > _LONG_ATTRIBUTE:
                del description.attrib[name]
                etree.SubElement(description, name).text = str(value)
        for child in description:
            yield len(etree.tostring(child)), child


def _cut(extension: bytes) -> list[bytes]:
    digest, total = _digest(extension).encode(), len(extension)
    places = range(0, total, _PART_BYTES)
    return [_PART.pack(digest, total, at) + extension[at : at + _PART_BYTES] for at in places]


def _digest(extension: bytes) -> str:
    return hashlib.md5(extension, usedforsecurity=False).hexdigest().upper()


def _descriptions(root: etree._Element) -> Iterator[etree._Element]:
    for resources in root.iter(f"{_RDF}RDF"):
        yield from resources.iterchildren(f"{_RDF}Description")


def _write(root: etree._Element) -> bytes:
    return etree.tostring(root.getroottree(), encoding="utf-8")


def _parse(data: bytes) -> etree._Element:
    if b"<!DOCTYPE" in data:
        raise _DamagedError
    return xmp_packet.parse(data)
