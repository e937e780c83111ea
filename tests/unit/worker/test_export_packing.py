"""`worker.export.packing`: what is in a bag, who agrees that it is whole, and what stops it."""

import csv
import errno
import json
import re
import tracemalloc
from datetime import timedelta
from pathlib import Path

import pytest
from lxml import etree

from jobs.errors import DestinationUnusable, OutputDamaged, StoreFull
from jobs.schema import derivative_key
from jobs.settings import JobSettings
from jobs.storage import open_store
from jobs.testing import FakeClock, MemoryStore, sqlite_ledger
from tests.unit.worker.export_album import (
    NOON,
    PNG,
    PREMIS,
    Album,
    album_in,
    sidecar,
    validated_by_others,
)
from worker.audit.seal import BLANK, seal
from worker.codec import decode
from worker.codec.limits import Limits
from worker.export.errors import BagInvalid, DeliveryMismatch
from worker.pipeline import run
from worker.scratch import Scratch
from worker.stages import Stages

UNUSUAL = [
    "Box 1/Frau Müller (1).tif",
    "日本語/写真 🙂.tif",
    "100%.tif",
    "a%0Ab%0D.tif",
    "%41.tif",
    "with\x85next line.tif",
    "with\u2028separator\u2029.tif",
    "trailing space.tif ",
    " leading/space.tif",
    "*star, ~tilde & 'quote\".tif",
    "no suffix",
    "ends with a dot.",
    "a" * 200 + ".tif",
]


@pytest.fixture
def ledger(tmp_path):
    opened = sqlite_ledger(tmp_path / "ledger.sqlite3", FakeClock())
    yield opened
    opened.close()


@pytest.fixture
def album(tmp_path, ledger):
    return album_in(tmp_path, ledger)


def rows(album, name):
    with (album.target / "data/metadata" / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def sealed(album, **changes):
    content = sidecar(album.masters.get("a.tif"), PNG, "a.tif", **changes) | {"seal": BLANK}
    return seal((json.dumps(content, indent=2) + "\n").encode())


def assert_nothing_is_left(album):
    assert [path.name for path in album.folder.glob("bag*")] == []


def test_a_large_file_is_never_held_in_memory(album, tmp_path):
    large = PNG + bytes(100 << 20)
    album.deliver("a.tif", derivative=large, master=large)
    del large
    scratch = Scratch(tmp_path, memory_bytes=1 << 20)
    tracemalloc.start()
    try:
        album.pack(with_masters=True, check=False, scratch=scratch)
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < 10 << 20
    sizes = {name: (album.target / "data" / name).stat().st_size for name in album.files()}
    large_files = [name for name, size_bytes in sizes.items() if size_bytes > 100 << 20]
    assert sorted(name.split("/")[0] for name in large_files) == ["derivatives", "masters"]


def test_a_bag_has_derivatives_sidecars_and_premis_byte_for_byte(album):
    album.deliver("box/a.tif", derivative=PNG + b"restored")
    contents = album.pack()

    name = derivative_key("box/a.tif", ".png")
    assert album.files() == {
        f"derivatives/{name}",
        f"derivatives/{name}.json",
        "metadata/premis/box/a.tif.premis.xml",
        "metadata/failures.csv",
        "metadata/pending.csv",
    }
    for key in (name, f"{name}.json"):
        packed = album.target / "data/derivatives" / key
        assert packed.read_bytes() == album.derivatives.get(key)
    assert (contents.delivered, contents.photos, contents.files) == (1, 1, 5)


def test_another_program_finds_the_bag_valid(album):
    album.deliver("a.tif")
    album.fail("b.tif")
    album.pack()

    outcome = validated_by_others(album.target)
    assert outcome.returncode == 0, outcome.stderr
    assert "bag is valid" in outcome.stderr


@pytest.mark.parametrize(
    "part",
    ["data/derivatives/*.png", "data/derivatives/*.json", "data/metadata/premis/*", "bag-info.txt"],
)
def test_another_program_finds_a_flipped_bit(album, part):
    album.deliver("a.tif")
    album.pack()
    (path,) = album.target.glob(part)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    outcome = validated_by_others(album.target)
    assert outcome.returncode != 0
    assert path.name in outcome.stderr


def test_another_program_finds_a_missing_and_an_added_file(album):
    album.deliver("a.tif")
    album.pack()
    extra = album.target / "data/derivatives/extra.png"
    extra.write_bytes(b"")
    assert validated_by_others(album.target).returncode != 0
    extra.unlink()
    next((album.target / "data/derivatives").glob("*.png")).unlink()
    assert validated_by_others(album.target).returncode != 0


def test_a_bag_is_one_of_rfc_8493_with_both_hashes_for_every_file(album):
    album.deliver("a.tif")
    album.pack()
    declaration = (album.target / "bagit.txt").read_text()
    assert declaration == "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
    for algorithm, digits in (("sha256", 64), ("sha512", 128)):
        manifest = (album.target / f"manifest-{algorithm}.txt").read_text("utf-8")
        listed = set(re.findall(rf"^[0-9a-f]{{{digits}}}  data/(.+)$", manifest, re.MULTILINE))
        assert listed == album.files()
        tags = (album.target / f"tagmanifest-{algorithm}.txt").read_text("utf-8")
        assert set(re.findall(r"  (.+)$", tags, re.MULTILINE)) == {
            "bagit.txt", "bag-info.txt", "manifest-sha256.txt", "manifest-sha512.txt",
        }  # fmt: skip


def test_the_bag_says_what_it_is_and_where_it_is_from(album):
    album.deliver("a.tif")
    album.fail("b.tif")
    album.pack(organization="City Archive\nSomewhere")
    lines = (album.target / "bag-info.txt").read_text("utf-8").splitlines()
    info = dict(line.split(": ", 1) for line in lines)

    sizes = [(album.target / "data" / name).stat().st_size for name in album.files()]
    assert info["Payload-Oxum"] == f"{sum(sizes)}.{len(sizes)}"
    assert info["Source-Organization"] == "City Archive Somewhere"
    assert info["External-Identifier"] == album.job.id
    assert info["Bagging-Date"] == "2026-07-22"
    assert info["Bag-Software-Agent"].startswith("gpen-archive ")
    assert album.job.recipe.hash() in info["Internal-Sender-Description"]
    assert "1 delivered, 1 failed, 0 pending" in info["Internal-Sender-Description"]


def test_masters_stay_where_they_are_unless_asked_for(album):
    album.deliver("a.tif", master=b"II*\0 a master")
    album.pack()
    assert not (album.target / "data/masters").exists()

    album.pack(target=album.folder / "whole", with_masters=True)
    assert (album.folder / "whole/data/masters/a.tif").read_bytes() == b"II*\0 a master"
    assert validated_by_others(album.folder / "whole").returncode == 0


def test_unusual_names_are_in_a_bag_that_others_validate(album):
    for key in UNUSUAL:
        album.deliver(key, derivative=PNG + key.encode())
    contents = album.pack(with_masters=True)

    outcome = validated_by_others(album.target)
    assert outcome.returncode == 0, outcome.stderr
    assert contents.delivered == len(UNUSUAL)
    folder = album.target / "data/metadata/premis"
    documents = [etree.parse(path).getroot() for path in folder.rglob("*.premis.xml")]
    names = {document.findtext("p:object/p:originalName", None, PREMIS) for document in documents}
    assert names == set(UNUSUAL)
    for document in documents:
        for place in document.iterfind(".//p:contentLocation", PREMIS):
            if place.findtext("p:contentLocationType", None, PREMIS) == "path in this bag":
                path = place.findtext("p:contentLocationValue", None, PREMIS)
                assert (album.target / path).is_file()


def test_no_name_in_a_bag_needs_an_escape(album):
    for key in UNUSUAL:
        album.deliver(key)
    album.pack(with_masters=True)
    assert not any(re.search("[%\r\n\x85\u2028\u2029]", name) for name in album.files())


def test_names_that_are_one_on_other_systems_stay_apart(album):
    keys = ["f\u00e9te.tif", "fe\u0301te.tif", "SCAN.TIF", "scan.tif"]
    for key in keys:
        album.deliver(key, derivative=PNG + key.encode())
    album.pack()

    outcome = validated_by_others(album.target)
    assert outcome.returncode == 0, outcome.stderr
    packed = [path.read_bytes() for path in (album.target / "data/derivatives").glob("*.png")]
    assert sorted(packed) == sorted(PNG + key.encode() for key in keys)


def test_a_name_too_long_for_a_folder_stops_no_export(tmp_path, ledger):
    album = Album(tmp_path, ledger, MemoryStore(), MemoryStore())
    long = ["\u00fc" * 400 + f"/{'a' * 60}{number}.tif" for number in range(2)]
    longer = ["b" * 850 + f"{number}.tif" for number in range(2)]
    for delivered, failed in (long, longer):
        album.deliver(delivered)
        album.fail(failed)
    contents = album.pack(with_masters=True)

    assert (contents.delivered, contents.failed) == (2, 2)
    assert validated_by_others(album.target).returncode == 0
    documents = map(etree.parse, (album.target / "data/metadata/premis").rglob("*.xml"))
    names = {one.findtext("p:object/p:originalName", None, PREMIS) for one in documents}
    assert names == {*long, *longer}
    assert {row["key"] for row in rows(album, "failures.csv")} == {long[1], longer[1]}
    assert all(name.endswith(".tif") for name in album.files() if name.startswith("masters/"))


def test_failed_photos_are_listed_with_their_reasons(album):
    album.deliver("a.tif")
    album.fail('b, "b".tif', code="photo.truncated", message="it ends\nearly")
    contents = album.pack()

    assert contents.failed == 1
    assert rows(album, "failures.csv") == [
        {
            "key": 'b, "b".tif',
            "code": "photo.truncated",
            "message": "it ends\nearly",
            "stage": "decode",
            "attempts": "1",
        }
    ]


def test_photos_that_wait_are_listed_as_pending(album):
    album.deliver("a.tif")
    album.wait("b.tif")
    contents = album.pack()

    assert (contents.delivered, contents.pending) == (1, 1)
    assert rows(album, "pending.csv") == [{"key": "b.tif", "state": "pending", "attempts": "0"}]
    assert not any("b.tif" in name for name in album.files())


def test_lists_without_entries_say_that_there_are_none(album):
    album.deliver("a.tif")
    album.pack()
    assert rows(album, "failures.csv") == rows(album, "pending.csv") == []


@pytest.mark.parametrize(
    ("suffix", "words"), [("", "the derivative of 'a.tif'"), (".json", "the sidecar of 'a.tif'")]
)
def test_a_missing_object_stops_the_export_and_is_named(album, suffix, words):
    album.deliver("a.tif")
    (album.folder / "out" / f"{derivative_key('a.tif', '.png')}{suffix}").unlink()

    with pytest.raises(DeliveryMismatch, match=words):
        album.pack()
    assert_nothing_is_left(album)


def test_a_damaged_derivative_stops_the_export_and_is_named(album):
    album.deliver("0.tif")
    album.deliver("a.tif", derivative=PNG + b"restored")
    (album.folder / "out" / derivative_key("a.tif", ".png")).write_bytes(PNG + b"Restored")

    with pytest.raises(DeliveryMismatch, match=r"the derivative of 'a\.tif'.*sha256"):
        album.pack()
    assert_nothing_is_left(album)


def test_a_sidecar_with_another_size_stops_the_export(album):
    album.wait("a.tif")
    content = sidecar(album.masters.get("a.tif"), PNG, "a.tif")
    content["derivative"] |= {"bytes": len(PNG) + 1}
    album.finish("a.tif", PNG, json.dumps(content).encode())

    with pytest.raises(DeliveryMismatch, match=r"the derivative of 'a\.tif'"):
        album.pack()


def test_a_changed_master_stops_the_export_that_would_copy_it(album):
    album.deliver("a.tif", master=b"as it was")
    (album.folder / "in/a.tif").write_bytes(b"as it is!")

    with pytest.raises(DeliveryMismatch, match=r"the master of 'a\.tif'"):
        album.pack(with_masters=True)
    assert_nothing_is_left(album)
    assert album.pack().delivered == 1


@pytest.mark.parametrize("sidecar_json", [b"", b"no JSON", b"[]", b"{}", b'{"schema": "other"}'])
def test_a_sidecar_that_cannot_be_read_stops_the_export(album, sidecar_json):
    album.wait("a.tif")
    album.finish("a.tif", PNG, sidecar_json)

    with pytest.raises(OutputDamaged, match=r"the sidecar of 'a\.tif'"):
        album.pack()
    assert_nothing_is_left(album)


def test_a_sidecar_about_another_photo_stops_the_export(album):
    album.wait("a.tif")
    album.finish("a.tif", PNG, json.dumps(sidecar(b"", PNG, "b.tif")).encode())

    with pytest.raises(DeliveryMismatch, match=r"'a\.tif' is about 'b\.tif'"):
        album.pack()


def test_a_sidecar_of_a_version_that_is_not_known_stops_the_export(album):
    album.wait("a.tif")
    album.finish("a.tif", PNG, sealed(album, schema_version=4, faces="otherwise"))

    with pytest.raises(OutputDamaged, match=r"'a\.tif' has schema_version 4, and .* up to 3"):
        album.pack()
    assert_nothing_is_left(album)


def test_a_sidecar_from_before_summaries_is_packed(album):
    album.wait("a.tif")
    content = sidecar(album.masters.get("a.tif"), PNG, "a.tif")
    del content["summary"], content["by_hand"]
    album.finish("a.tif", PNG, json.dumps(content).encode())
    assert album.pack().delivered == 1


def test_fields_that_an_export_does_not_need_are_packed_as_they_are(album):
    album.wait("a.tif")
    album.finish("a.tif", PNG, sealed(album, schema_version=2, proof={"verdict": "identical"}))
    assert album.pack().delivered == 1
    (packed,) = (album.target / "data/derivatives").glob("*.json")
    assert json.loads(packed.read_text())["proof"] == {"verdict": "identical"}


@pytest.mark.parametrize(
    ("before", "after"), [(b"1 of 2", b"2 of 2"), (b'"seal"', b'"zeal"'), (b"}\n", b"}")]
)
def test_a_sidecar_that_was_changed_stops_the_export(album, before, after):
    album.wait("a.tif")
    changed = sealed(album, schema_version=2).replace(before, after)
    album.finish("a.tif", PNG, changed)

    with pytest.raises(OutputDamaged, match=r"seal of the sidecar of 'a\.tif'"):
        album.pack()
    assert_nothing_is_left(album)


def test_what_the_pipeline_delivers_can_be_packed(bench, picture, tmp_path):
    ids = bench.submit({"a.png": picture})
    claim = bench.runtime.ledger.claim(ids["a.png"], worker="w1", lease_s=60)
    outcome = run(
        claim,
        masters=bench.masters,
        derivatives=bench.derivatives,
        engine=bench.engine,
        decode=decode,
        limits=Limits(10_000),
        stages=Stages(),
    )
    bench.runtime.ledger.succeed(claim, outcome)
    album = Album(tmp_path, bench.runtime.ledger, bench.masters, bench.derivatives)

    assert album.pack(with_masters=True).delivered == 1
    assert validated_by_others(album.target).returncode == 0


def test_nothing_is_replaced(album):
    album.deliver("a.tif")
    album.target.mkdir()
    (album.target / "mine").write_text("mine")

    with pytest.raises(DestinationUnusable, match="isn't an empty folder"):
        album.pack()
    assert (album.target / "mine").read_text() == "mine"


def test_an_empty_folder_is_used(album):
    album.deliver("a.tif")
    album.target.mkdir()
    album.pack()
    assert validated_by_others(album.target).returncode == 0


def test_another_exports_unfinished_folder_is_left_alone(album):
    album.deliver("a.tif")
    (album.folder / "bag.part").mkdir()

    with pytest.raises(DestinationUnusable, match=r"bag\.part"):
        album.pack()
    assert (album.folder / "bag.part").is_dir()


def test_a_folder_that_cannot_be_made_is_named(album):
    with pytest.raises(DestinationUnusable, match="nowhere"):
        album.pack(target=album.folder / "nowhere/bag")


@pytest.mark.parametrize("place", ["in/bag", "out/bag", "out"])
def test_a_bag_stays_out_of_the_jobs_own_folders(album, place):
    album.deliver("a.tif")
    with pytest.raises(DestinationUnusable, match="belongs to the job"):
        album.pack(target=album.folder / place)


def test_an_interrupted_export_leaves_nothing(album):
    album.deliver("a.tif")

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        album.pack(on_photo=interrupt)
    assert_nothing_is_left(album)


def test_a_disk_that_writes_something_else_is_found_out(album):
    album.deliver("a.tif")

    def damage():
        (path,) = album.folder.glob("bag.part/data/derivatives/*.png")
        path.write_bytes(PNG[::-1])

    with pytest.raises(BagInvalid, match=r"a\.restored"):
        album.pack(on_photo=damage)
    assert_nothing_is_left(album)
    album.pack(on_photo=damage, check=False)
    assert validated_by_others(album.target).returncode != 0


def test_a_full_disk_is_told_as_such(album, monkeypatch):
    album.deliver("a.tif")
    write = Path.open

    def full(path, mode="r", *arguments, **options):
        if path.name.endswith(".png") and "x" in mode:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(StoreFull, match=r"a\.restored"):
        album.pack()
    assert_nothing_is_left(album)


def test_masters_that_are_file_and_folder_at_once_are_refused_by_name(tmp_path, ledger):
    album = Album(tmp_path, ledger, MemoryStore(), MemoryStore())
    album.deliver("box")
    album.deliver("box/a.tif")

    with pytest.raises(DestinationUnusable, match="masters/box"):
        album.pack(with_masters=True)
    assert album.pack().delivered == 2


def test_two_exports_differ_in_their_dates_only(album):
    album.deliver("a.tif", notes=["the profile was damaged"])
    album.fail("b.tif")
    later = NOON + timedelta(days=1, hours=1)
    album.pack()
    album.pack(target=album.folder / "again", now=lambda: later)

    def texts(bag):
        for path in sorted(bag.rglob("*")):
            if path.is_file() and not path.name.startswith(("manifest-", "tagmanifest-")):
                text = path.read_bytes().replace(b"2026-07-23T13", b"2026-07-22T12")
                yield path.relative_to(bag), text.replace(b"2026-07-23", b"2026-07-22")

    assert list(texts(album.target)) == list(texts(album.folder / "again"))


@pytest.mark.services
def test_a_job_in_s3_is_packed_too(tmp_path, ledger, s3):
    settings = JobSettings(
        s3_endpoint_url=s3.endpoint_url,
        s3_access_key_id=s3.access_key,
        s3_secret_access_key=s3.secret_key,
    )
    places = [f"s3://{s3.make_bucket()}/{what}" for what in ("masters", "restored")]
    album = Album(tmp_path, ledger, *(open_store(place, settings) for place in places))
    album.deliver("Box 1/100% ü.tif", master=b"II*\0")
    album.pack(with_masters=True)

    assert validated_by_others(album.target).returncode == 0
    (name,) = [name for name in album.files() if name.startswith("masters/")]
    document = album.premis(name.removeprefix("masters/"))
    origin = document.findall(".//p:contentLocation", PREMIS)[1]
    assert [part.text for part in origin] == ["URI", f"{places[0]}/Box 1/100% ü.tif"]
