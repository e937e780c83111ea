"""The label, read back from written files by other readers than ours."""

import io
import json
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from lxml import etree
from PIL import Image, TiffImagePlugin
from PIL.PngImagePlugin import PngInfo

from jobs.recipe import Recipe
from tests.unit.worker.audit.archive import (
    IDENTITY,
    LEFT_ALONE,
    RESTORED,
    Archive,
    PageEngine,
    noise,
    scan,
    tiff,
)
from worker.codec import decode, sha256_of
from worker.codec.limits import Limits
from worker.label import COMPOSITE, Label, labelled
from worker.provenance import software
from worker.xmp import MAX_PACKET_BYTES

NAMES = {
    "x": "adobe:ns:meta/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "xmpMM": "http://ns.adobe.com/xap/1.0/mm/",
    "stRef": "http://ns.adobe.com/xap/1.0/sType/ResourceRef#",
    "stEvt": "http://ns.adobe.com/xap/1.0/sType/ResourceEvent#",
    "ext": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "gpen": "urn:gpen-archive:label:1/",
}
DECLARED = " ".join(f'xmlns:{prefix}="{name}"' for prefix, name in NAMES.items())
OUTPUTS = ["png", "tiff", "jpeg"]
LABEL = Label("test 1.0", "box 1/a.png", "d" * 64, "e" * 64, (("gpen compact", "a" * 64),))

MASTER = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta {DECLARED}><rdf:RDF>
 <rdf:Description rdf:about="uuid:1" xmp:CreatorTool="Scanner 9" xmpMM:DocumentID="xmp.did:7"
   xmpMM:InstanceID="xmp.iid:8" ext:DigitalSourceType="http://cv.iptc.org/x/print">
  <dc:title><rdf:Alt><rdf:li xml:lang="x-default">Anna &amp; Bob</rdf:li></rdf:Alt></dc:title>
  <xmpMM:History><rdf:Seq><rdf:li stEvt:action="created"/></rdf:Seq></xmpMM:History>
 </rdf:Description>
 <rdf:Description rdf:about="uuid:1"><dc:source>Box 7</dc:source>
  <xmpMM:DerivedFrom stRef:filePath="negative.tif"/></rdf:Description>
</rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>""".encode()


def find(packet, path):
    """Values of all elements or attributes at an XPath."""
    return etree.fromstring(packet).xpath(path, namespaces=NAMES)


def one(packet, name):
    """The only value of a simple property, in either of its spellings."""
    found = find(packet, f"//rdf:Description/{name}/text() | //rdf:Description/@{name}")
    assert len(found) <= 1, found
    return str(found[0]) if found else None


def read_back(data):
    """The packets of a file, by Pillow or tifffile."""
    if data[:4] in {b"II*\0", b"MM\0*"}:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            return [bytes(page.tags[700].value) for page in file.pages]
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return [image.info["xmp"]]


def with_xmp(kind, packet, samples=None):
    out = io.BytesIO()
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", packet.decode())
    options = {
        "PNG": {"pnginfo": text},
        "TIFF": {"tiffinfo": TiffImagePlugin.ImageFileDirectory_v2()},
        "JPEG": {"xmp": packet},
    }[kind]
    if kind == "TIFF":
        options["tiffinfo"][700] = packet
    Image.fromarray(noise(0) if samples is None else samples).save(out, kind, **options)
    return out.getvalue()


def label_of(packet, *, restored=True):
    """Label a page that carried a packet; return the new one and what was noted."""
    photograph = decode(scan(), limits=Limits(10_000))
    page = photograph.pages[0]
    page = replace(page, metadata=replace(page.metadata, xmp=packet))
    done = labelled(replace(photograph, pages=(page,)), LABEL, [restored])
    return done.pages[0].metadata.xmp, " ".join(done.notes)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("kind", ["none", "PNG", "JPEG", "TIFF"])
def test_every_derivative_says_what_it_is_and_of_what(archive, kind, output):
    data = scan() if kind == "none" else with_xmp(kind, MASTER)
    key = archive.deliver("box 1/a.png", data, [RESTORED], recipe=Recipe(output=output))
    sidecar = json.loads(archive.sidecar(key))

    (packet,) = read_back(archive.derivative(key))

    assert one(packet, "ext:DigitalSourceType") == COMPOSITE
    assert one(packet, "ext:AISystemUsed") == "gpen compact"
    assert one(packet, "ext:AISystemVersionUsed") == f"sha256:{'a' * 64}"
    assert one(packet, "gpen:MasterKey") == "box 1/a.png"
    assert one(packet, "gpen:MasterSha256") == sha256_of(data)
    assert one(packet, "gpen:RecipeHash") == sidecar["recipe_hash"]
    assert one(packet, "gpen:Restored") == "True"
    assert find(packet, "//xmpMM:DerivedFrom/@stRef:filePath") == ["box 1/a.png"]
    assert find(packet, "//xmpMM:History/rdf:Seq/rdf:li[last()]/@stEvt:softwareAgent") == [
        software()
    ]


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool isn't installed")
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("master", [None, MASTER])
def test_exiftool_finds_the_label_and_no_fault(archive, tmp_path, output, master):
    data = scan() if master is None else with_xmp("PNG", master)
    key = archive.deliver("a.png", data, [RESTORED], recipe=Recipe(output=output))
    path = tmp_path / key
    path.write_bytes(archive.derivative(key))
    asked = ["-json", "-G1", "-struct", "-a", "-validate", "-warning", "-all"]
    found = subprocess.run(["exiftool", *asked, str(path)], capture_output=True, check=True)
    (tags,) = json.loads(found.stdout)
    assert tags["XMP-iptcExt:DigitalSourceType"] == COMPOSITE
    assert tags["XMP-xmpMM:DerivedFrom"]["FilePath"] == "a.png"
    assert tags["XMP-gpen:MasterSha256"] == sha256_of(data)
    assert tags["XMP-xmpMM:History"][-1]["SoftwareAgent"] == software()
    if master is not None:
        assert tags["XMP-dc:Title"] == "Anna & Bob"
        assert tags["XMP-dc:Source"] == "Box 7"
    faults = [str(value) for name, value in tags.items() if "Warning" in name]
    assert not [fault for fault in faults if "XMP" in fault or "XML" in fault]


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("pages", [[], [LEFT_ALONE]])
def test_a_derivative_with_the_masters_pixels_claims_no_trained_network(archive, pages, output):
    key = archive.deliver("a.png", scan(), pages, recipe=Recipe(output=output))
    (packet,) = read_back(archive.derivative(key))
    assert b"algorithmic" not in packet.lower()
    assert b"AISystem" not in packet
    assert one(packet, "gpen:Restored") == "False"
    assert one(packet, "gpen:MasterSha256") == sha256_of(scan())
    assert find(packet, "//rdf:li/@stEvt:softwareAgent") == [software()]


def test_where_no_pixel_changed_what_the_master_says_of_its_source_stays():
    packet, _ = label_of(MASTER, restored=False)
    assert one(packet, "ext:DigitalSourceType") == "http://cv.iptc.org/x/print"


def test_a_restored_background_names_its_network_too(archive):
    recipe = Recipe(background_scale=2)
    key = archive.deliver("a.png", scan(), [], recipe=recipe)
    (packet,) = read_back(archive.derivative(key))
    assert one(packet, "ext:DigitalSourceType") == COMPOSITE
    assert one(packet, "ext:AISystemUsed") == "gpen compact, scenery"
    assert one(packet, "ext:AISystemVersionUsed").endswith(f", sha256:{'c' * 64}")


def test_every_page_tells_of_itself(archive):
    pages = tiff(noise(0), noise(1), noise(2))
    key = archive.deliver("a.tif", pages, [RESTORED], [], [LEFT_ALONE])
    packets = read_back(archive.derivative(key))
    assert [one(packet, "gpen:Restored") for packet in packets] == ["True", "False", "False"]
    assert [one(packet, "ext:DigitalSourceType") for packet in packets] == [COMPOSITE, None, None]
    assert len({one(packet, "xmpMM:InstanceID") for packet in packets}) == 3


def test_the_masters_other_properties_stay_as_they_are():
    packet, notes = label_of(MASTER)
    assert find(packet, "//dc:title/rdf:Alt/rdf:li/text()") == ["Anna & Bob"]
    assert one(packet, "dc:source") == "Box 7"
    assert one(packet, "xmp:CreatorTool") == "Scanner 9"
    assert one(packet, "xmpMM:DocumentID") == "xmp.did:7"
    actions = find(packet, "//xmpMM:History/rdf:Seq/rdf:li/@stEvt:action")
    assert actions == ["created", "edited"]
    assert set(find(packet, "//rdf:Description/@rdf:about")) == {"uuid:1"}
    assert notes == ""


def test_a_property_that_gives_way_is_kept_under_another_name():
    packet, _ = label_of(MASTER)
    assert one(packet, "ext:DigitalSourceType") == COMPOSITE
    assert one(packet, "gpen:MasterDigitalSourceType") == "http://cv.iptc.org/x/print"
    assert find(packet, "//gpen:MasterDerivedFrom/@stRef:filePath") == ["negative.tif"]
    assert find(packet, "//xmpMM:DerivedFrom/@stRef:instanceID") == ["xmp.iid:8"]
    assert find(packet, "//xmpMM:DerivedFrom/@stRef:documentID") == ["xmp.did:7"]
    assert one(packet, "xmpMM:InstanceID") not in {None, "xmp.iid:8"}


def test_a_history_that_is_no_list_is_kept_beside_ours():
    packet, _ = label_of(MASTER.replace(b"rdf:Seq", b"rdf:Bag"))
    assert find(packet, "//gpen:MasterHistory//@stEvt:action") == ["created"]
    assert find(packet, "//xmpMM:History/rdf:Seq/rdf:li/@stEvt:action") == ["edited"]


def test_the_same_work_gives_the_same_bytes():
    first, second = Archive(), Archive()
    for archive in (first, second):
        archive.deliver("a.png", with_xmp("PNG", MASTER), [RESTORED])
    assert first.derivative("a.restored.png") == second.derivative("a.restored.png")


def test_other_work_gives_another_instance(archive):
    archive.deliver("a.png", scan(), [RESTORED])
    archive.deliver("b.png", scan(), [RESTORED], recipe=Recipe(strength=0.5))
    instances = {
        one(read_back(archive.derivative(f"{name}.restored.png"))[0], "xmpMM:InstanceID")
        for name in "ab"
    }
    assert len(instances) == 2


@pytest.mark.parametrize(
    "packet",
    [
        MASTER + b"\0\0\0",
        MASTER.decode().encode("utf-16"),
        MASTER.decode().encode("utf-16-le"),
        MASTER.replace(b"x:xmpmeta", b"x:xapmeta"),
        MASTER[MASTER.index(b"<x:") : MASTER.rindex(b"<?")],
        b'<?xml version="1.0"?>\n' + MASTER[MASTER.index(b"<x:") :],
    ],
)
def test_packets_in_other_dress_are_read(packet):
    written, notes = label_of(packet)
    assert notes == ""
    assert one(written, "dc:source") == "Box 7"
    assert written.decode().startswith('<?xpacket begin="\ufeff" id="W5M0')


def test_a_packet_without_properties_gets_the_label():
    written, notes = label_of(b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>')
    assert (one(written, "gpen:MasterKey"), notes) == ("box 1/a.png", "")


@pytest.mark.parametrize("packet", [None, b"", b"\0\0", b"  \n"])
def test_no_packet_needs_no_note(packet):
    written, notes = label_of(packet)
    assert (one(written, "gpen:MasterKey"), notes) == ("box 1/a.png", "")


def test_what_can_be_read_of_a_damaged_packet_is_kept_and_that_is_said():
    written, notes = label_of(MASTER.replace(b"</dc:source>", b"</dc:sorce>"))
    assert "readable parts" in notes
    assert one(written, "xmp:CreatorTool") == "Scanner 9"
    assert one(written, "gpen:MasterKey") == "box 1/a.png"


@pytest.mark.parametrize(
    "packet",
    [
        b"rubbish",
        b"\xff\xfe\x00",
        MASTER[:90],
        b"<html><body/></html>",
        MASTER.replace(b"xmlns:dc=", b"xmlns:cd="),
        b"<a>" * 300,
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>',
    ],
)
def test_a_packet_that_cannot_be_read_is_left_out_and_that_is_said(packet):
    written, notes = label_of(packet)
    assert "left out" in notes
    assert one(written, "gpen:MasterKey") == "box 1/a.png"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_never_resolved(tmp_path, encoding):
    secret = tmp_path / "secret"
    secret.write_text("SECRET")
    trick = f'<!DOCTYPE x [<!ENTITY e SYSTEM "file://{secret}"><!ENTITY b "BOMB">]>'
    packet = trick.encode() + MASTER[MASTER.index(b"<x:") :].replace(b"Box 7", b"&e;&b;")
    written, notes = label_of(packet.decode().encode(encoding))
    assert b"SECRET" not in written
    assert b"BOMB" not in written
    assert "document type" in notes


def test_an_endless_packet_is_left_out():
    written, notes = label_of(MASTER.replace(b"Box 7", b"x" * MAX_PACKET_BYTES))
    assert "too long" in notes
    assert len(written) < 4000


def test_a_packet_too_long_for_a_segment_of_a_jpeg_leaves_the_label_in_its_main_part(archive):
    words = b"x" * 70_000
    master = with_xmp("PNG", MASTER.replace(b"Box 7", words))
    key = archive.deliver("a.png", master, [RESTORED], recipe=Recipe(output="jpeg"))
    data = archive.derivative(key)
    main = data[data.index(b"<x:xmpmeta") : data.index(b"</x:xmpmeta>")]
    assert COMPOSITE.encode() in main
    assert words not in main
    (packet,) = read_back(data)
    assert one(packet, "ext:DigitalSourceType") == COMPOSITE
    assert words in decode(data, limits=Limits(10_000)).pages[0].metadata.xmp
    assert not any("too long" in note for note in json.loads(archive.sidecar(key))["notes"])


def test_a_derivative_that_is_restored_again_has_one_label(archive):
    first = archive.derivative(archive.deliver("a.png", scan(), [RESTORED]))
    key = archive.deliver("again.png", first, [RESTORED])
    (packet,) = read_back(archive.derivative(key))
    assert one(packet, "gpen:MasterKey") == "again.png"
    assert one(packet, "gpen:MasterSha256") == sha256_of(first)
    assert len(find(packet, "//xmpMM:History/rdf:Seq/rdf:li")) == 2
    assert any("label" in note for note in json.loads(archive.sidecar(key))["notes"])


def test_a_name_that_xml_cannot_hold_is_written_as_far_as_it_can():
    photograph = decode(scan(), limits=Limits(10_000))
    label = replace(LABEL, master_key="a\udc80\x01\uffff<&>.png")
    packet = labelled(photograph, label, [True]).pages[0].metadata.xmp
    assert one(packet, "gpen:MasterKey") == "a\ufffd\ufffd\ufffd<&>.png"


def test_a_plugins_network_is_named_by_its_restorer(archive):
    engine = PageEngine([[RESTORED]], identity=replace(IDENTITY, restorer="codeformer, x 1.2"))
    key = archive.deliver("a.png", scan(), engine=engine)
    (packet,) = read_back(archive.derivative(key))
    assert one(packet, "ext:AISystemUsed") == "codeformer compact"


def test_the_label_is_no_reason_to_call_pixels_changed(archive):
    key = archive.deliver("a.png", scan(), [])
    np.testing.assert_array_equal(
        decode(archive.derivative(key), limits=Limits(10_000)).pages[0].pixels,
        decode(scan(), limits=Limits(10_000)).pages[0].pixels,
    )


@pytest.mark.parametrize(("kind", "lossless"), [("WEBP", "lossless"), ("JPEG2000", "irreversible")])
def test_lossless_webp_and_jpeg_2000_carry_one_label_too(archive, kind, lossless):
    out = io.BytesIO()
    Image.fromarray(noise(0)).save(out, kind, **{lossless: kind == "WEBP"})
    first = archive.deliver("a.x", out.getvalue(), [RESTORED])
    again = archive.deliver("b.x", archive.derivative(first), [RESTORED])
    assert first.endswith((".webp", ".jp2"))
    for key, master in ((first, "a.x"), (again, "b.x")):
        packets = re.findall(
            rb"<\?xpacket begin=.*?<\?xpacket end=\"w\"\?>", archive.derivative(key), re.S
        )
        assert [one(packet, "gpen:MasterKey") for packet in packets] == [master]
        assert one(packets[0], "ext:DigitalSourceType") == COMPOSITE
