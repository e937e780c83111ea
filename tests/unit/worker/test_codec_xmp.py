"""XMP packets: true to the picture however they are spelled; long ones come back whole."""

import hashlib
import shutil
import struct
import subprocess
import zlib
from io import BytesIO

import numpy as np
import pytest
from lxml import etree
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.unit.worker.whole import encode
from worker.codec import decode
from worker.codec.limits import Limits

MAIN, EXTENSION = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
RDF = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
DC, NOTE = (
    'xmlns:dc="http://purl.org/dc/elements/1.1/"',
    'xmlns:xmpNote="http://ns.adobe.com/xmp/note/"',
)
STORY = "Anna & Bert, " * 9000
OUTPUTS = ["png", "tiff", "jpeg"]


def packet(properties, attributes=""):
    return (
        '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        f'<rdf:RDF {RDF}><rdf:Description rdf:about="" {DC} {attributes}>{properties}'
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def simple(name, value):
    return f"<dc:{name}>{value.replace('&', '&amp;')}</dc:{name}>"


def digest_of(data):
    return hashlib.md5(data, usedforsecurity=False).hexdigest().upper()


REST = packet(simple("source", STORY))
TRICK = b"<!DOCTYPE a>" + REST
DIGEST = digest_of(REST)
POINTER = f'{NOTE} xmpNote:HasExtendedXMP="{DIGEST}"'
POINTING = packet(simple("creator", "A. Nonymous"), POINTER)


def segment(payload):
    return b"\xff\xe1" + (len(payload) + 2).to_bytes(2) + payload


def parts(extension=REST, digest=DIGEST, step=50_000):
    return [
        EXTENSION + digest.encode() + struct.pack(">II", len(extension), at) + extension[at:][:step]
        for at in range(0, len(extension), step)
    ]


def picture():
    return Image.fromarray(np.full((16, 24, 3), 99, np.uint8))


def jpeg(main, extension):
    out = BytesIO()
    picture().save(out, "JPEG")
    data = out.getvalue()
    return data[:2] + b"".join(map(segment, [MAIN + main, *extension])) + data[2:]


def png(xmp):
    out, text = BytesIO(), PngInfo()
    text.add_itxt("XML:com.adobe.xmp", xmp.decode())
    picture().save(out, "PNG", pnginfo=text)
    return out.getvalue()


def read(data):
    return decode(data, limits=Limits(10_000))


def rewrite(data, output):
    photograph = read(data)
    pixels = [page.pixels for page in photograph.pages]
    return encode(photograph, pixels, output=output, jpeg_quality=95, software="test")


def segments_of(data, name):
    """The payloads of a JPEG's segments, read without the codec."""
    at, found = 2, []
    while data[at + 1] != 0xDA:
        length = int.from_bytes(data[at + 2 : at + 4])
        payload = data[at + 4 : at + 2 + length]
        found += [payload[len(name) :]] if payload.startswith(name) else []
        at += 2 + length
    return found


@pytest.mark.parametrize("extension", [parts(), parts()[::-1]], ids=["in order", "backwards"])
def test_a_packet_and_its_extension_are_read_as_one(extension):
    photograph = read(jpeg(POINTING, extension))
    found = photograph.pages[0].metadata.xmp
    assert b"A. Nonymous" in found
    assert STORY.replace("&", "&amp;").encode() in found
    assert b"HasExtendedXMP" not in found
    assert photograph.notes == ()


def test_a_packet_without_an_extension_stays_byte_for_byte():
    main = packet(simple("creator", "A. Nonymous"))
    assert read(jpeg(main, [])).pages[0].metadata.xmp == main


@pytest.mark.parametrize("output", OUTPUTS)
def test_both_parts_come_back_in_every_kind_of_file(output):
    encoded = rewrite(jpeg(POINTING, parts()), output)
    found = read(encoded.data).pages[0].metadata.xmp
    assert b"A. Nonymous" in found
    assert STORY.replace("&", "&amp;").encode() in found
    assert b"HasExtendedXMP" not in found
    assert not any("XMP" in note or "too long" in note for note in encoded.notes)


@pytest.mark.parametrize(
    "properties",
    [
        (simple("source", STORY) + simple("creator", "A. Nonymous"), ""),
        (simple("creator", "A. Nonymous"), f'dc:source="{STORY.replace("&", "&amp;")}"'),
    ],
    ids=["element", "attribute"],
)
def test_a_jpeg_gets_its_long_packet_in_parts_that_are_what_they_say(properties):
    data = rewrite(png(packet(*properties)), "jpeg").data
    (main,), extension = segments_of(data, MAIN), segments_of(data, EXTENSION)
    assert b"A. Nonymous" in main
    assert b"Anna" not in main
    whole = b""
    for part in extension:
        digest, length, at = struct.unpack_from(">32sII", part)
        assert at == len(whole)
        whole += part[40:]
        assert main.count(digest) == 1
    assert length == len(whole)
    assert digest_of(whole).encode() == digest
    assert b"Anna &amp; Bert" in whole
    again = read(data)
    assert again.notes == ()
    assert b"Anna &amp; Bert" in again.pages[0].metadata.xmp


def broken(change):
    extension = [bytearray(part) for part in parts()]
    change(extension)
    return [bytes(part) for part in extension]


DAMAGED = {
    "nothing": jpeg(POINTING, []),
    "a part is missing": jpeg(POINTING, parts()[1:]),
    "no pointer": jpeg(packet(simple("creator", "A. Nonymous")), parts()),
    "a letter changed": jpeg(POINTING, broken(lambda found: found[1].__setitem__(900, 64))),
    "of another packet": jpeg(POINTING, parts(digest="0" * 32)),
    "cut off within its header": jpeg(POINTING, [EXTENSION + DIGEST.encode()]),
    "a document type": jpeg(
        POINTING.replace(DIGEST.encode(), digest_of(TRICK).encode()),
        parts(TRICK, digest_of(TRICK)),
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_an_extension_that_cannot_be_read_costs_only_itself_and_that_is_said(name):
    photograph = read(DAMAGED[name])
    found = photograph.pages[0].metadata.xmp
    assert b"A. Nonymous" in found
    assert b"HasExtendedXMP=" not in found
    assert b"Anna" not in found
    assert any("extended part" in note for note in photograph.notes)


def test_an_extension_without_its_packet_is_left_out_and_that_is_said():
    data = jpeg(b"", parts()).replace(segment(MAIN), b"")
    photograph = read(data)
    assert photograph.pages[0].metadata.xmp is None
    assert any("extended part" in note for note in photograph.notes)


@pytest.mark.skipif(not shutil.which("exiftool"), reason="exiftool isn't installed")
@pytest.mark.parametrize("output", OUTPUTS)
def test_exiftool_finds_the_same_properties(output, tmp_path):
    found = []
    for number, data in enumerate(
        (jpeg(POINTING, parts()), rewrite(jpeg(POINTING, parts()), output).data)
    ):
        path = tmp_path / str(number)
        path.write_bytes(data)
        command = ["exiftool", "-s3", "-XMP-dc:Source", "-XMP-dc:Creator", str(path)]
        found.append(subprocess.run(command, check=True, capture_output=True).stdout)
    assert found[0] == found[1]
    assert STORY.strip().encode() in found[0]


TIFF = "http://ns.adobe.com/tiff/1.0/"
XMP = 'xmlns:s="http://ns.adobe.com/xap/1.0/"'
TURNED = {
    "element": packet("<tiff:Orientation>6</tiff:Orientation>", f'xmlns:tiff="{TIFF}"'),
    "attribute": packet("", f'xmlns:tiff="{TIFF}" tiff:Orientation="6"'),
    "spaces": packet("", f'xmlns:tiff="{TIFF}" tiff:Orientation = "6"'),
    "prefix": packet("<t:Orientation >6</t:Orientation >", f'xmlns:t="{TIFF}"'),
    "reference": packet("", f'xmlns:tiff="{TIFF}" tiff:Orientation="&#54;"'),
    "UTF-16": packet("", f'xmlns:tiff="{TIFF}" tiff:Orientation="6"').decode().encode("utf-16"),
    "UTF-16, no mark": packet("", f'xmlns:t="{TIFF}" t:Orientation="6"')
    .decode()
    .encode("utf-16-be"),
}


def properties_of(found):
    """Names, without their prefixes, and texts of a packet's properties."""
    (description,) = etree.fromstring(found).iter("{*}Description")
    elements = {child.tag: child.text for child in description}
    return {etree.QName(n).localname: t for n, t in ({**description.attrib, **elements}).items()}


@pytest.mark.parametrize("main", TURNED.values(), ids=TURNED)
def test_the_orientation_is_upright_however_it_is_spelled(main):
    photograph = read(jpeg(main, []))
    assert properties_of(photograph.pages[0].metadata.xmp)["Orientation"] == "1"
    assert photograph.notes == ()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
def test_no_thumbnail_stays_in_a_packet_however_it_is_spelled(encoding):
    thumbnails = "<s:Thumbnails ><rdf:Alt><rdf:li>stale</rdf:li></rdf:Alt></s:Thumbnails >"
    main = packet(thumbnails + simple("creator", "Anna"), XMP).decode().encode(encoding)
    found = read(jpeg(main, [])).pages[0].metadata.xmp
    assert properties_of(found)["creator"] == "Anna"
    assert "stale" not in "".join(etree.fromstring(found).itertext())


def test_words_that_only_look_like_an_orientation_stay_byte_for_byte():
    main = packet(simple("title", 'tiff:Orientation="6"'), f"xmlns:tiff='{TIFF}'")
    assert read(jpeg(main, [])).pages[0].metadata.xmp == main
    upright = TURNED["spaces"].replace(b'"6"', b'"1"')
    assert read(jpeg(upright, [])).pages[0].metadata.xmp == upright


def test_an_ingredient_keeps_its_own_orientation():
    inner = '<rdf:Description t:Orientation="6"/>'
    main = packet(f"<dc:relation>{inner}</dc:relation>", f'xmlns:t="{TIFF}" t:Orientation="6"')
    found = read(jpeg(main, [])).pages[0].metadata.xmp
    assert found.count(b't:Orientation="6"') == found.count(b't:Orientation="1"') == 1


def test_a_damaged_packet_that_names_an_orientation_is_upright_and_that_is_said():
    main = TURNED["element"].replace(b"</rdf:Desc", b"<dc:title>Anna</dc:titel></rdf:Desc")
    photograph = read(jpeg(main, []))
    assert properties_of(photograph.pages[0].metadata.xmp)["Orientation"] == "1"
    assert any("XMP packet is damaged" in note for note in photograph.notes)


def test_an_unreadable_packet_that_names_an_orientation_is_left_out_and_that_is_said():
    photograph = read(jpeg(b"<a>tiff:Orientation", []))
    assert photograph.pages[0].metadata.xmp is None
    assert any("XMP packet can't be read" in note for note in photograph.notes)
    assert read(jpeg(b"<a>rubbish", [])).notes == ()


def png_with(*chunks):
    """A PNG file with more chunks, each a type and its data."""
    out = BytesIO()
    picture().save(out, "PNG")
    start, rest = out.getvalue()[:33], out.getvalue()[33:]
    packed = [
        len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)
        for kind, data in chunks
    ]
    return start + b"".join(packed) + rest


def raw_profile(main):
    digits = main.hex().encode()
    return b"tEXt", b"Raw profile type xmp\0\nxmp\n    %d\n%s\n" % (len(main), digits)


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_packet_that_a_png_holds_as_a_raw_profile_is_read_and_written_once(output):
    data = rewrite(png_with(raw_profile(TURNED["element"])), output).data
    found = read(data).pages[0].metadata.xmp
    assert properties_of(found)["Orientation"] == "1"
    assert b"Raw profile type xmp" not in data


@pytest.mark.parametrize("swapped", [True, False])
def test_of_two_packets_of_a_png_one_is_kept_and_that_is_said(swapped):
    first, second = packet(simple("creator", "Anna")), packet(simple("creator", "Bert"))
    chunks = [(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + first), raw_profile(second)]
    photograph = read(png_with(*(chunks[::-1] if swapped else chunks)))
    assert photograph.pages[0].metadata.xmp == first
    assert any("second XMP packet" in note for note in photograph.notes)
    assert read(png_with(chunks[0], raw_profile(first))).notes == ()
