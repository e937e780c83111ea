"""The label: what a derivative says of itself, in the XMP packet of each of its pages.

In: a decoded photograph and what is to be said. Out: the same photograph with labelled packets, so
that whichever writer encodes it carries them. The master's own properties stay; one that has to
give way to ours is kept as `gpen:Master…`. There is no time in it: the same label, the same bytes.
docs/sidecar.md describes it. Source: IPTC Photo Metadata Standard 2025.1.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

from worker.codec import Photograph
from worker.xmp import MAX_PACKET_BYTES, NAMESPACES, Packet, xml_text

COMPOSITE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""IPTC NewsCodes, Digital Source Type: existing media, edited with a trained network."""


@dataclass(frozen=True, slots=True)
class Label:
    """What a derivative says of itself.

    Attributes:
        software: the program and its version.
        master_key: which file it was made from.
        master_sha256: the hash of that file.
        recipe_hash: how it was made.
        models: name and sha256 of each network that the recipe may change pixels with.
    """

    software: str
    master_key: str
    master_sha256: str
    recipe_hash: str
    models: tuple[tuple[str, str], ...]


def labelled(
    photograph: Photograph,
    label: Label,
    restored: Sequence[bool],
) -> Photograph:
    """Return a photograph whose pages carry the label, with notes of what had to be left out.

    Args:
        photograph: the master as decoded.
        label: what is said.
        restored: for each page whether a network changed any of its pixels.
    """
    notes: list[str] = []
    pages = []
    for number, (page, changed) in enumerate(zip(photograph.pages, restored, strict=True)):
        packet = _packet(page.metadata.xmp, label, number, changed=changed, notes=notes)
        if len(packet) > MAX_PACKET_BYTES:
            notes.append("the master's XMP packet is too long and was left out")
            packet = _packet(None, label, number, changed=changed, notes=[])
        pages.append(replace(page, metadata=replace(page.metadata, xmp=packet)))
    kept = tuple(dict.fromkeys([*photograph.notes, *notes]))
    return replace(photograph, pages=tuple(pages), notes=kept)


def _packet(
    master: bytes | None, label: Label, page: int, *, changed: bool, notes: list[str]
) -> bytes:
    """Return a page's packet with the label."""
    packet = Packet(master, notes)
    if packet.remove_all("gpen"):
        notes.append("the master carries such a label itself; its derivative's own replaced it")
    instance = _instance(label, page)
    derived_from = _reference(packet, label)
    packet.remove("xmpMM:InstanceID")
    packet.set_text("xmpMM:InstanceID", instance)
    packet.rename("xmpMM:DerivedFrom", "gpen:MasterDerivedFrom")
    packet.set_fields("xmpMM:DerivedFrom", derived_from)
    for name, value in _properties(label, changed=changed).items():
        packet.rename(name, f"gpen:Master{name.partition(':')[2]}")
        packet.set_text(name, value)
    event = _event(label, instance, changed=changed)
    packet.append("xmpMM:History", event, kept_as="gpen:MasterHistory")
    return packet.to_bytes()


def _properties(label: Label, *, changed: bool) -> dict[str, str]:
    """Return what is said; of a page whose pixels are the master's no network is named."""
    properties = {
        "gpen:MasterKey": xml_text(label.master_key),
        "gpen:MasterSha256": label.master_sha256,
        "gpen:RecipeHash": label.recipe_hash,
        "gpen:Restored": str(changed),
    }
    if changed:
        names, hashes = zip(*label.models, strict=True)
        properties |= {
            "Iptc4xmpExt:DigitalSourceType": COMPOSITE,
            "Iptc4xmpExt:AISystemUsed": xml_text(", ".join(names)),
            "Iptc4xmpExt:AISystemVersionUsed": ", ".join(f"sha256:{one}" for one in hashes),
        }
    return properties


def _reference(packet: Packet, label: Label) -> dict[str, str]:
    """Return the reference to the master, with the names that it has for itself."""
    fields = {"stRef:filePath": xml_text(label.master_key)}
    for field, name in (("documentID", "DocumentID"), ("instanceID", "InstanceID")):
        own = packet.text(f"xmpMM:{name}")
        if own is not None:
            fields[f"stRef:{field}"] = own
    return fields


def _event(label: Label, instance: str, *, changed: bool) -> dict[str, str]:
    """Return what happened, for the history."""
    return {
        "stEvt:action": "edited" if changed else "derived",
        "stEvt:instanceID": instance,
        "stEvt:softwareAgent": label.software,
        "stEvt:parameters": f"recipe {label.recipe_hash}",
    }


def _instance(label: Label, page: int) -> str:
    """Name the derivative's page, by what decides it."""
    models = (sha256 for _, sha256 in label.models)
    content = "\n".join((label.master_sha256, label.recipe_hash, *models, str(page)))
    return f"xmp.iid:{uuid.uuid5(uuid.NAMESPACE_URL, NAMESPACES['gpen'] + content)}"
