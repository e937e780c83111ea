"""XMP packets: read what a file carried, and give those properties that the picture decides others.

In: a packet's bytes, from outside: entities, network, document types and huge trees are switched
off. Out: its tree, or a packet again. Properties are known by namespace, however a packet spells
its prefix. Source: XMP Specification, Part 1 (2012), sections 7.3 and 7.4.
"""

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress

from lxml import etree

MAX_PACKET_BYTES = 16 << 20
TIFF, EXIF = "{http://ns.adobe.com/tiff/1.0/}", "{http://ns.adobe.com/exif/1.0/}"
THUMBNAILS = "{http://ns.adobe.com/xap/1.0/}Thumbnails"
_XMPMETA = "adobe:ns:meta/"
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_PADDING = b"\0 \t\r\n"

Changes = Mapping[str, Callable[[str], str]]
"""By the full name of a property: what makes its new value of the old one."""


def change(
    packet: bytes, changes: Changes, notes: list[str], *, dropped: Collection[str] = ()
) -> bytes | None:
    """Return a packet with other values: in UTF-8, or the same bytes where nothing has to change.

    None where it can't be read and names what has to change.

    Args:
        packet: as a file carried it.
        changes: of simple properties of the picture itself, where it has them.
        notes: is appended to where the bytes don't stay the same.
        dropped: full names of properties that are left out, wherever they lie.
    """
    said: list[str] = []
    root = read(packet, said)
    if root is None:
        letters = packet.replace(b"\0", b"")
        if not any(
            etree.QName(name).localname.encode() in letters for name in (*changes, *dropped)
        ):
            return packet
        notes += said
        return None
    stale = list(root.iter(*dropped)) if dropped else []
    for element in stale:
        _drop(element)
    changed = [_change_values(root, name, new) for name, new in changes.items()]
    if not stale and not any(changed):
        return packet
    notes += said
    return etree.tostring(root.getroottree(), encoding="utf-8")


def _drop(element: etree._Element) -> None:
    parent = element.getparent()
    if parent is not None:
        parent.remove(element)


def _change_values(root: etree._Element, name: str, new: Callable[[str], str]) -> bool:
    """Change a property, an attribute or an element; tell whether its value was another."""
    is_changed = False
    resources = resources_of(root)
    for description in () if resources is None else resources.iterchildren("*"):
        old = description.get(name)
        if old is not None and new(old) != old:
            description.set(name, new(old))
            is_changed = True
        for child in description.iterchildren(name):
            old = (child.text or "").strip()
            if not len(child) and new(old) != old:
                child.text = new(old)
                is_changed = True
    return is_changed


def read(packet: bytes, notes: list[str]) -> etree._Element | None:
    """Return a packet's root, None for an empty one or one that can't be read.

    Args:
        packet: as a file carried it.
        notes: is appended to, where something can't be read.
    """
    stripped = packet.strip(_PADDING)
    if not stripped:
        return None
    # In UTF-16 and UTF-32 a NUL stands beside every letter.
    if len(packet) > MAX_PACKET_BYTES or b"<!DOCTYPE" in packet.replace(b"\0", b""):
        notes.append("the XMP packet is too long or declares a document type, and was left out")
        return None
    for data in (packet, stripped):
        with suppress(etree.XMLSyntaxError):
            root = parse(data)
            if resources_of(root) is None and etree.QName(root).namespace != _XMPMETA:
                break
            return root
    mended = _mend(stripped)
    if mended is not None:
        notes.append("the XMP packet is damaged; only its readable parts were kept")
        return mended
    notes.append("the XMP packet can't be read and was left out")
    return None


def _mend(packet: bytes) -> etree._Element | None:
    """Return what can be read of a damaged packet, if it is whole for other readers too."""
    with suppress(etree.XMLSyntaxError):
        mended: etree._Element | None = parse(packet, recover=True)
        if mended is not None:
            whole = parse(etree.tostring(mended, encoding="utf-8"))
            return whole if resources_of(whole) is not None else None
    return None


def parse(data: bytes, *, recover: bool = False) -> etree._Element:
    """Return the root of an XML text.

    Args:
        data: the text.
        recover: go on after errors, with what could be read.

    Raises:
        etree.XMLSyntaxError: it is no XML, or too deep.
    """
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        strip_cdata=False,
        recover=recover,
    )
    return etree.fromstring(data, parser)


def resources_of(root: etree._Element) -> etree._Element | None:
    """Return the first `rdf:RDF`, which holds everything."""
    return next(root.iter(f"{_RDF}RDF"), None)
