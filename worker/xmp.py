"""XMP packets: read whatever a file carried, add properties, write it again.

In: a packet's bytes. Out: a packet in UTF-8, the same bytes for the same content. What can't be
read is left out, and that is said in `notes`. Source: XMP Specification, Part 1 (2012), sections
7.3 and 7.4.
"""

import re
from collections.abc import Iterator, Mapping

from lxml import etree

from worker.codec import xmp_packet

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

MAX_PACKET_BYTES = xmp_packet.MAX_PACKET_BYTES
NAMESPACES = {
    "x": "adobe:ns:meta/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "xmpMM": "http://ns.adobe.com/xap/1.0/mm/",
    "stRef": "http://ns.adobe.com/xap/1.0/sType/ResourceRef#",
    "stEvt": "http://ns.adobe.com/xap/1.0/sType/ResourceEvent#",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "gpen": "urn:gpen-archive:label:1/",
}
"""By the prefixes that names have everywhere in this project, such as `xmpMM:History`."""

_BEGIN = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'.encode()
_END = b'\n<?xpacket end="w"?>'
_EMPTY = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'


class Packet:
    """The properties of one resource, spread over `rdf:Description`s as attributes or elements.

    Args:
        data: a packet as a file carried it, None where it carried none.
        notes: is appended to.
    """

    def __init__(self, data: bytes | None, notes: list[str]) -> None:
        self._root = _read(data, notes)
        found = xmp_packet.resources_of(self._root)
        self._rdf = self._add(self._root, "rdf:RDF", "rdf") if found is None else found
        self._added: etree._Element | None = None

    def to_bytes(self) -> bytes:
        """Return the packet with its wrapper, in UTF-8."""
        return _BEGIN + etree.tostring(self._root, encoding="utf-8", with_tail=False) + _END

    def text(self, name: str) -> str | None:
        """Return a simple property, None where there is none."""
        key = _spelled(name)
        for description in self._descriptions():
            child = description.find(key)
            value = description.get(key) if child is None else child.text
            if value:
                return str(value)
        return None

    def remove(self, name: str) -> None:
        """Remove a property."""
        self._remove(_spelled(name))

    def remove_all(self, prefix: str) -> bool:
        """Remove all properties of a namespace; tell whether there were any."""
        inside = f"{{{NAMESPACES[prefix]}}}"
        found = {
            str(name)
            for description in self._descriptions()
            for name in (*description.attrib, *(child.tag for child in description))
            if str(name).startswith(inside)
        }
        for name in found:
            self._remove(name)
        return bool(found)

    def rename(self, name: str, new: str) -> None:
        """Give a property, if it is there, another name, whatever its value is made of."""
        old, key = _spelled(name), _spelled(new)
        for description in self._descriptions():
            if old in description.attrib:
                description.set(key, description.attrib.pop(old))
            for child in description.findall(old):
                child.tag = key

    def set_text(self, name: str, value: str) -> None:
        """Add a simple property, whose name has to be free."""
        self._add(self._description(), name).text = value

    def set_fields(self, name: str, fields: Mapping[str, str]) -> None:
        """Add a structure of simple fields, whose name has to be free."""
        _set(self._add(self._description(), name), fields)

    def append(self, name: str, fields: Mapping[str, str], *, kept_as: str) -> None:
        """Add a structure at the end of an ordered list.

        Args:
            name: of the list, which is made where there is none.
            fields: of the structure, all simple.
            kept_as: the new name of a property that is called so and isn't such a list.
        """
        path = f"{_spelled(name)}/{_spelled('rdf:Seq')}"
        found = (description.find(path) for description in self._descriptions())
        ordered = next((one for one in found if one is not None), None)
        if ordered is None:
            self.rename(name, kept_as)
            ordered = self._add(self._add(self._description(), name), "rdf:Seq")
        _set(self._add(ordered, "rdf:li", *_prefixes(fields)), fields)

    def _descriptions(self) -> Iterator[etree._Element]:
        return self._rdf.iterchildren(_spelled("rdf:Description"))

    def _description(self) -> etree._Element:
        """Return the description that holds what is added, of the same resource as the others."""
        if self._added is None:
            about = _spelled("rdf:about")
            subject = next((one.get(about, "") for one in self._descriptions()), "")
            ours = [prefix for prefix in NAMESPACES if prefix not in {"x", "rdf"}]
            self._added = self._add(self._rdf, "rdf:Description", *ours)
            self._added.set(about, subject)
        return self._added

    def _remove(self, key: str) -> None:
        for description in self._descriptions():
            if key in description.attrib:
                del description.attrib[key]
            for child in description.findall(key):
                description.remove(child)

    @staticmethod
    def _add(parent: etree._Element, name: str, *prefixes: str) -> etree._Element:
        declared = {prefix: NAMESPACES[prefix] for prefix in prefixes}
        return etree.SubElement(parent, _spelled(name), nsmap=declared)


def xml_text(text: str) -> str:
    """Return what XML can hold: names of files may have characters that it can't."""
    return _NOT_IN_XML.sub("\ufffd", text)


def _read(data: bytes | None, notes: list[str]) -> etree._Element:
    """Return a packet's root, or an empty one in place of what can't be read."""
    root = xmp_packet.read(data, notes) if data is not None else None
    return xmp_packet.parse(_EMPTY) if root is None else root


def _set(element: etree._Element, fields: Mapping[str, str]) -> None:
    for name, value in fields.items():
        element.set(_spelled(name), value)


def _prefixes(names: Mapping[str, str]) -> set[str]:
    return {name.partition(":")[0] for name in names}


def _spelled(name: str) -> str:
    """Return `prefix:Name` as lxml spells it."""
    prefix, _, local = name.partition(":")
    return f"{{{NAMESPACES[prefix]}}}{local}"
