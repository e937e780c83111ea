"""PREMIS documents: what they tell of a photo, and what the schema doesn't let through."""

import json
from pathlib import Path

import pytest
from lxml import etree

import worker.export
from jobs.testing import FakeClock, sqlite_ledger
from tests.unit.worker.export_album import PNG, PREMIS, album_in, sidecar

XSD = Path(worker.export.__file__).with_name("premis-subset.xsd")
TIFF, JFIF = b"II*\0 a scan", b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01 a scan"


@pytest.fixture
def album(tmp_path):
    ledger = sqlite_ledger(tmp_path / "ledger.sqlite3", FakeClock())
    yield album_in(tmp_path, ledger)
    ledger.close()


@pytest.fixture
def document(album):
    """The document of a photo that was delivered without a hitch."""
    album.deliver("a.tif", master=TIFF)
    album.pack(with_masters=True)
    return album.premis("a.tif")


def texts(element, path):
    return [found.text for found in element.iterfind(path, PREMIS)]


def event(document, kind):
    events = document.iterfind("p:event", PREMIS)
    (found,) = (one for one in events if texts(one, "p:eventType") == [kind])
    return found


def file(document, what):
    """The object whose identifier says that it is a master, a derivative or a sidecar."""
    path = "p:objectIdentifier/p:objectIdentifierValue"
    files = document.iterfind("p:object", PREMIS)
    (found,) = (one for one in files if f"/{what}/" in texts(one, path)[0])
    return found


def term(element, name):
    found = element.find(f".//p:{name}", PREMIS)
    return found.text, found.get("valueURI")


def test_master_derivative_and_sidecar_are_files_with_hash_size_and_place(album, document):
    for what, path, form in [
        ("master", "masters/a.tif", "TIFF"),
        ("derivative", "derivatives/a.restored.tif.png", "PNG"),
        ("sidecar", "derivatives/a.restored.tif.png.json", "JSON"),
    ]:
        told, stored = file(document, what), album.target / "data" / path
        manifest = (album.target / "manifest-sha256.txt").read_text("utf-8")
        assert f"{texts(told, './/p:messageDigest')[0]}  data/{path}\n" in manifest
        assert texts(told, ".//p:size") == [str(stored.stat().st_size)]
        assert texts(told, ".//p:formatName") == [form]
        assert f"data/{path}" in texts(told, ".//p:contentLocationValue")


def test_a_master_that_stays_where_it_is_is_told_with_its_hash_and_place(album):
    album.deliver("box/a.tif", master=TIFF)
    album.pack()
    master = file(album.premis("box/a.tif"), "master")
    assert texts(master, ".//p:contentLocationValue") == [f"{album.masters.url}/box/a.tif"]
    assert texts(master, ".//p:size") == [str(len(TIFF))]
    assert texts(master, "p:originalName") == ["box/a.tif"]


def test_the_derivative_has_the_master_as_its_source(document):
    derivative, master = file(document, "derivative"), file(document, "master")
    relation = derivative.find("p:relationship", PREMIS)
    assert texts(relation, "p:relationshipType") == ["derivation"]
    assert texts(relation, "p:relationshipSubType") == ["has Source"]
    source = texts(relation, "p:relatedObjectIdentifier/p:relatedObjectIdentifierValue")
    assert source == texts(master, "p:objectIdentifier/p:objectIdentifierValue")
    cause = texts(relation, "p:relatedEventIdentifier/p:relatedEventIdentifierValue")
    creation = event(document, "creation")
    assert cause == texts(creation, "p:eventIdentifier/p:eventIdentifierValue")


def test_the_derivative_came_to_be_by_a_creation_of_known_program_and_model(document):
    creation = event(document, "creation")
    assert term(creation, "eventType")[1].endswith("/eventType/cre")
    assert term(creation, "eventOutcome")[0] == "success"
    assert texts(creation, "p:eventDateTime") == ["2026-07-01T08:30:00+00:00"]
    assert texts(creation, ".//p:eventOutcomeDetailNote") == ["1 of 2 finds restored"]
    (detail,) = texts(creation, ".//p:eventDetail")
    for part in ('"strength": 1.0', "a" * 64, "b" * 64, "on cpu in fp32"):
        assert part in detail
    assert texts(creation, "p:linkingAgentIdentifier/p:linkingAgentRole") == [
        "executing program",
        "model",
    ]
    assert texts(creation, ".//p:linkingObjectRole") == ["source", "outcome"]
    agents = {
        agent.findtext("p:agentIdentifier/p:agentIdentifierValue", None, PREMIS): agent
        for agent in document.iterfind("p:agent", PREMIS)
    }
    assert texts(agents["gpen-archive 0.0.9"], "p:agentVersion") == ["0.0.9"]
    assert texts(agents[f"sha256:{'a' * 64}"], "p:agentName") == ["compact"]


def test_hashing_and_the_check_at_export_are_events_of_their_own(document):
    digests = event(document, "message digest calculation")
    assert texts(digests, "p:eventDateTime") == ["2026-07-01T08:30:00+00:00"]
    check = event(document, "fixity check")
    assert texts(check, "p:eventDateTime") == ["2026-07-22T12:00:00+00:00"]
    assert term(check, "eventOutcome")[0] == "success"
    checked = texts(check, ".//p:linkingObjectIdentifierValue")
    assert [one.split("/")[1] for one in checked] == ["master", "derivative"]


def test_the_check_at_export_claims_nothing_of_a_master_that_was_not_read(album):
    album.deliver("a.tif")
    album.pack()
    check = event(album.premis("a.tif"), "fixity check")
    checked = texts(check, ".//p:linkingObjectIdentifierValue")
    assert [one.split("/")[1] for one in checked] == ["derivative"]


def test_a_note_of_the_sidecar_is_a_warning(album):
    album.deliver("a.tif", notes=["the profile was damaged", "", "a tile was made smaller"])
    album.pack()
    creation = event(album.premis("a.tif"), "creation")
    assert term(creation, "eventOutcome") == (
        "warning",
        "http://id.loc.gov/vocabulary/preservation/eventOutcome/war",
    )
    assert texts(creation, ".//p:eventOutcomeDetailNote")[1:] == [
        "the profile was damaged",
        "a tile was made smaller",
    ]


def test_a_photo_without_faces_is_a_success_that_says_so(album):
    album.deliver("a.tif", faces=[], summary="no face was found: the pixels are the master's")
    album.pack()
    creation = event(album.premis("a.tif"), "creation")
    assert term(creation, "eventOutcome")[0] == "success"
    assert texts(creation, ".//p:eventOutcomeDetailNote")[0].startswith("no face was found")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "faces restored in a copy"),
        ({"faces": []}, "no face restored in a copy"),
        ({"faces": [{"page": 0, "restored": False}]}, "no face restored in a copy"),
        (
            {"faces": [], "recipe": {"background_scale": 2}},
            "no face, but the background restored in a copy",
        ),
    ],
)
def test_no_face_is_said_to_be_restored_where_none_was(album, changes, said):
    album.deliver("a.tif", **changes)
    album.pack()
    (detail,) = texts(event(album.premis("a.tif"), "creation"), ".//p:eventDetail")
    assert detail.startswith(said)


def test_a_failed_photo_is_a_creation_that_failed_for_a_reason(album):
    album.fail("box/b.tif", code="photo.truncated", message="it ends at 12 %")
    album.pack()
    document = album.premis("box/b.tif")

    creation = event(document, "creation")
    assert term(creation, "eventOutcome") == (
        "fail",
        "http://id.loc.gov/vocabulary/preservation/eventOutcome/fai",
    )
    assert texts(creation, ".//p:eventOutcomeDetailNote") == [
        "photo.truncated: it ends at 12 %",
        "given up at the stage decode, after 1 attempt",
    ]
    assert texts(creation, "p:eventDateTime") == ["1970-01-12T13:46:40+00:00"]  # the clock's
    master = file(document, "master")
    assert texts(master, "p:originalName") == ["box/b.tif"]
    assert texts(master, ".//p:formatName") == ["unknown"]
    assert texts(master, ".//p:messageDigest") == []


def test_text_that_xml_cannot_hold_does_not_stop_an_export(album):
    album.deliver("a\ufffe<&>.tif", notes=["\x1b[31m red \udcff \x00"])
    album.fail("b.tif", message="\x07")
    album.pack()
    notes = texts(event(album.premis("a\ufffe<&>.tif"), "creation"), ".//p:eventOutcomeDetailNote")
    assert notes[1] == "\ufffd[31m red \ufffd \ufffd"


@pytest.mark.parametrize(
    ("data", "puid"),
    [
        (TIFF, ["fmt/353"]),
        (b"MM\0* a scan", ["fmt/353"]),
        (b"II+\0 a BigTIFF", []),
        (JFIF, ["fmt/43"]),
        (b"\xff\xd8\xff\xe1 a JPEG that begins with Exif", []),
        (PNG, []),
        (b"", []),
    ],
)
def test_pronoms_name_is_given_where_it_is_certain(album, data, puid):
    album.deliver("a.tif", master=data or b"0", derivative=data)
    album.pack(with_masters=True)
    document = album.premis("a.tif")
    assert texts(file(document, "derivative"), ".//p:formatRegistryKey") == puid
    assert texts(file(document, "master"), ".//p:formatRegistryKey") == puid


def test_a_failure_and_the_later_success_of_a_photo_are_two_events(album):
    album.fail("a.tif")
    album.pack(target=album.folder / "before")
    album.ledger.retry(album.job.id)
    content = sidecar(album.masters.get("a.tif"), PNG, "a.tif")
    album.finish("a.tif", PNG, json.dumps(content).encode())
    album.pack()

    before = etree.parse(album.folder / "before/data/metadata/premis/a.tif.premis.xml").getroot()
    path = "p:eventIdentifier/p:eventIdentifierValue"
    events = [event(document, "creation") for document in (before, album.premis("a.tif"))]
    assert texts(events[0], path) != texts(events[1], path)


def test_identifiers_in_different_documents_are_different(album):
    for key in ("a.tif", "b.tif"):
        album.deliver(key)
    album.fail("c.tif")
    album.pack()
    documents = [album.premis(key) for key in ("a.tif", "b.tif", "c.tif")]
    found = [
        value
        for document in documents
        for what in ("object", "event")
        for value in texts(document, f"p:{what}/p:{what}Identifier/p:{what}IdentifierValue")
    ]
    assert len(found) == len(set(found)) == 3 + 3 + 3 + 3 + 2


def cut(path):
    def change(document):
        found = document.find(path, PREMIS)
        found.getparent().remove(found)

    return change


def swap(path):
    def change(document):
        found = document.find(path, PREMIS)
        found.getparent().append(found)

    return change


def put(path, text):
    def change(document):
        document.find(path, PREMIS).text = text

    return change


@pytest.mark.parametrize(
    "change",
    [
        cut("p:agent"),
        cut("p:event/p:eventDateTime"),
        cut("p:event/p:linkingAgentIdentifier/p:linkingAgentRole"),
        cut("p:object/p:objectCharacteristics/p:format"),
        swap("p:object"),
        swap("p:event"),
        swap("p:event/p:eventType"),
        swap("p:object/p:originalName"),
        put("p:event/p:linkingObjectIdentifier/p:linkingObjectIdentifierValue", "nobody"),
        put("p:event/p:linkingAgentIdentifier/p:linkingAgentIdentifierValue", "nobody"),
        put("p:object/p:linkingEventIdentifier/p:linkingEventIdentifierValue", "never"),
        put(".//p:relatedObjectIdentifierValue", "nobody"),
        put(".//p:relatedEventIdentifierValue", "never"),
        put(".//p:messageDigest", "A" * 64),
        put(".//p:size", "-1"),
        put(".//p:eventDateTime", "yesterday"),
        put(".//p:formatRegistryKey", "353"),
        put(".//p:eventDetail", ""),
        lambda document: document.attrib.pop("version"),
        lambda document: document.set("version", "2.2"),
        lambda document: document.find("p:event/p:eventType", PREMIS).attrib.clear(),
        lambda document: document.find("p:object", PREMIS).attrib.clear(),
        lambda document: etree.SubElement(document, "{http://www.loc.gov/premis/v3}rights"),
    ],
)
def test_the_schema_refuses_a_document_that_is_not_right(document, change):
    schema = etree.XMLSchema(etree.parse(XSD))
    assert schema.validate(document), schema.error_log
    change(document)
    assert not schema.validate(document)
