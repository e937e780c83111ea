import hashlib
import json

import numpy as np
import pytest

from jobs.errors import SourceMissing, StoreUnavailable
from jobs.recipe import Recipe
from jobs.storage import DirectoryStore
from jobs.testing import MemoryStore
from tests.unit.worker.audit.archive import (
    LEFT_ALONE,
    RESTORED,
    Archive,
    fill,
    noise,
    scan,
    tiff,
)
from tests.unit.worker.whole import encode
from worker.audit.seal import BLANK, seal
from worker.audit.verify import Check, Verdict, verify, verify_all
from worker.codec import decode
from worker.codec.limits import Limits

FINE = dict.fromkeys(Check, Verdict.FINE)


def check_all(archive, *, masters=True, quick=False, max_pixels=1_000_000):
    """What was found, by derivative."""
    given = archive.masters if masters else None
    found = verify_all(
        archive.derivatives, given, decode=decode, limits=Limits(max_pixels), quick=quick
    )
    return {one.derivative_key: one for one in found}


def check_one(archive, key, **options):
    return {result.check: result for result in check_all(archive, **options)[key].results}


def verdicts(archive, key, **options):
    return {check: one.verdict for check, one in check_one(archive, key, **options).items()}


def reseal(archive, key, change):
    """Change a sidecar and seal it again, as somebody might who means to."""
    content = json.loads(archive.sidecar(key))
    change(content)
    content["seal"] = BLANK
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    archive.derivatives.objects[f"{key}.json"] = seal(text.encode())


def recorded(data):
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def test_everything_that_was_delivered_is_fine(full_archive):
    found = check_all(full_archive)
    assert sorted(found) == sorted(full_archive.keys)
    assert not any(one.findings for one in found.values())
    assert verdicts(full_archive, "restored.restored.png") == FINE


@pytest.mark.parametrize("key", ["scene.restored.png", "lossy.restored.png.jpg"])
def test_pixels_are_no_question_where_all_may_differ_and_the_reason_is_said(full_archive, key):
    result = check_one(full_archive, key)[Check.PIXELS]
    assert result.verdict is Verdict.NOT_APPLICABLE
    assert "background" in result.detail or "JPEG" in result.detail


def test_without_their_place_masters_are_not_checked_and_never_fine(full_archive):
    for key in full_archive.keys:
        found = verdicts(full_archive, key, masters=False)
        assert found[Check.MASTER] is Verdict.NOT_CHECKED
        assert found[Check.PIXELS] in {Verdict.NOT_CHECKED, Verdict.NOT_APPLICABLE}
        assert found[Check.DERIVATIVE] is Verdict.FINE


def test_a_quick_check_decodes_nothing(full_archive):
    key = "restored.restored.png"
    given = full_archive.derivatives, full_archive.masters
    verified = verify(key, *given, decode=None, limits=Limits(), quick=True)
    found = {result.check: result.verdict for result in verified.results}
    assert found == FINE | {Check.PIXELS: Verdict.NOT_CHECKED}


def test_a_thousand_flipped_bits_are_all_found():
    archive = Archive()
    chance = np.random.default_rng(20)
    places = []
    for key in fill(archive):
        master = json.loads(archive.sidecar(key))["master"]["key"]
        places += [(archive.derivatives, key, key), (archive.derivatives, f"{key}.json", key)]
        places.append((archive.masters, master, key))
    missed = []
    for _ in range(1000):
        store, name, key = places[chance.integers(len(places))]
        whole = store.objects[name]
        bit = int(chance.integers(len(whole) * 8))
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        store.objects[name] = bytes(damaged)
        found = verify(
            key, archive.derivatives, archive.masters, decode=decode, limits=Limits(1_000_000)
        )
        if not found.findings:
            missed.append((name, bit))
        store.objects[name] = whole
    assert missed == []


@pytest.mark.parametrize("part", ["master", "derivative"])
def test_a_file_of_another_length_or_content_is_named(archive, part):
    key = archive.deliver("a.png", scan(), [RESTORED])
    store, name = (archive.masters, "a.png") if part == "master" else (archive.derivatives, key)
    whole = store.objects[name]
    for damaged, word in ((whole + b"\0", "bytes, and"), (whole[:-1] + b"!", "other bytes")):
        store.objects[name] = damaged
        found = check_one(archive, key)
        assert found[Check(part)].verdict is Verdict.WRONG
        assert word in found[Check(part)].detail
        assert found[Check.PIXELS].verdict is Verdict.NOT_CHECKED


@pytest.mark.parametrize("part", ["master", "derivative"])
def test_a_file_that_is_gone_is_named(archive, part):
    key = archive.deliver("a.png", scan(), [RESTORED])
    store, name = (archive.masters, "a.png") if part == "master" else (archive.derivatives, key)
    del store.objects[name]
    found = check_one(archive, key)
    assert found[Check(part)].verdict is Verdict.WRONG
    assert name in found[Check(part)].detail


def test_a_derivative_whose_sidecar_is_gone_is_found(archive):
    key = archive.deliver("a.png", scan(), [RESTORED])
    del archive.derivatives.objects[f"{key}.json"]
    found = check_one(archive, key)
    assert "no sidecar" in found[Check.RECORD].detail
    assert found[Check.DERIVATIVE].verdict is Verdict.NOT_CHECKED


@pytest.mark.parametrize("name", ["portrait.tif", "PORTRAIT.JPG"])
def test_what_restore_wrote_under_a_name_of_its_own_is_found_too(archive, name):
    key = archive.deliver("a.png", scan(), [RESTORED])
    for suffix in ("", ".json"):
        stored = archive.derivatives.objects.pop(key + suffix)
        archive.derivatives.objects[name + suffix] = stored
    reseal(archive, name, lambda content: content["derivative"].update(key=name))
    assert verdicts(archive, name) == FINE
    archive.derivatives.objects[f"{name}.json"] = b"{}"
    assert check_all(archive)[name].findings


def test_pairs_of_two_photos_that_changed_places_are_found(archive):
    one = archive.deliver("a.png", scan(), [RESTORED])
    other = archive.deliver("box/a.png", scan(seed=1), [RESTORED])
    objects = archive.derivatives.objects
    for suffix in ("", ".json"):
        objects[one + suffix], objects[other + suffix] = (
            objects[other + suffix],
            objects[one + suffix],
        )
    found = check_one(archive, one)[Check.RECORD]
    assert found.verdict is Verdict.WRONG
    assert "'box/a.restored.png'" in found.detail


def test_a_folder_of_the_destination_can_be_looked_at_by_itself(archive, tmp_path):
    archive.deliver("box/a.png", scan(), [RESTORED])
    for key, data in archive.derivatives.objects.items():
        (tmp_path / key).parent.mkdir(exist_ok=True)
        (tmp_path / key).write_bytes(data)
    folder = DirectoryStore(tmp_path / "box")
    (found,) = verify_all(folder, archive.masters, decode=decode, limits=Limits(10_000))
    assert not found.findings


def test_what_restore_wrote_into_a_folder_is_fine_from_above(archive):
    key = archive.deliver("box/a.png", scan(), [RESTORED])
    reseal(archive, key, lambda content: content["derivative"].update(key="a.restored.png"))
    assert verdicts(archive, key) == FINE


class FailingStore(MemoryStore):
    """Can't read some of its objects, or nothing at all."""

    def __init__(self, objects, *failing, gone=False):
        super().__init__(objects)
        self.failing, self.gone = failing, gone

    def get(self, key):
        self._require(key)
        return super().get(key)

    def head(self, key):
        self._require(key)
        return super().head(key)

    def check_readable(self):
        if self.gone:
            raise SourceMissing("the disk is gone")

    def _require(self, key):
        if key in self.failing:
            raise StoreUnavailable(f"can't read {key!r}: EIO")


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("a.png", Check.MASTER),
        ("a.restored.png", Check.DERIVATIVE),
        ("a.restored.png.json", Check.RECORD),
    ],
)
def test_one_file_that_cannot_be_read_is_a_finding_and_the_others_are_checked(archive, name, check):
    for key in ("a.png", "b.png"):
        archive.deliver(key, scan(), [RESTORED])
    archive.masters = FailingStore(archive.masters.objects, name)
    archive.derivatives = FailingStore(archive.derivatives.objects, name)
    found = check_one(archive, "a.restored.png")
    assert found[check].verdict is Verdict.WRONG
    assert "EIO" in found[check].detail
    assert verdicts(archive, "b.restored.png") == FINE


@pytest.mark.parametrize("name", ["a.png", "a.restored.png"])
def test_a_place_that_is_gone_as_a_whole_ends_the_audit(archive, name):
    archive.deliver("a.png", scan(), [RESTORED])
    archive.masters = FailingStore(archive.masters.objects, name, gone=True)
    archive.derivatives = FailingStore(archive.derivatives.objects, name, gone=True)
    with pytest.raises(SourceMissing, match="gone"):
        check_all(archive)


def test_files_of_others_are_passed_over(archive):
    archive.deliver("a.png", scan(), [RESTORED])
    for name in ("notes.txt", "list.json", "a.jpg", "picture.restored.txt", ".hidden.json", "a\\b"):
        archive.derivatives.objects[name] = b"mine"
    assert list(check_all(archive)) == ["a.restored.png"]


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"schema": 1}'])
def test_a_sidecar_that_is_none_breaks_seal_and_record(archive, text):
    key = archive.deliver("a.png", scan(), [RESTORED])
    archive.derivatives.objects[f"{key}.json"] = text
    found = verdicts(archive, key)
    assert (found[Check.SEAL], found[Check.RECORD]) == (Verdict.WRONG, Verdict.WRONG)
    assert found[Check.MASTER] is Verdict.NOT_CHECKED


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda s: s.pop("recipe"), "recipe"),
        (lambda s: s.update(schema_version=4, faces=1), "schema_version 4, and"),
        (lambda s: s.update(schema_version=0), "schema_version"),
        (lambda s: s["master"].update(sha256="f" * 64), "two masters"),
        (lambda s: s.update(recipe_hash="f" * 64), "two recipes"),
        (lambda s: s["faces"][0].pop("region"), "no region"),
        (lambda s: s["faces"][0].update(page=1), "no page"),
        (lambda s: s["faces"][0].update(region=[-1, 0, 30, 40]), "beyond its page"),
        (lambda s: s["faces"][0].update(region=[0, 0, 31, 40]), "beyond its page"),
        (lambda s: s["faces"][0].update(region=[0, 0, 30, 10**9]), "beyond its page"),
        (lambda s: s["faces"][0].update(region=[20, 0, 10, 40]), "beyond its page"),
    ],
)
def test_a_record_that_does_not_agree_with_itself_is_found(archive, change, word):
    key = archive.deliver("a.png", scan(), [RESTORED])
    reseal(archive, key, change)
    result = check_one(archive, key)[Check.RECORD]
    assert result.verdict is Verdict.WRONG
    assert word in result.detail


def test_a_sidecar_from_before_the_seal_is_checked_for_the_rest(archive):
    key = archive.deliver("a.png", scan(), [RESTORED])
    content = json.loads(archive.sidecar(key)) | {"schema_version": 1}
    del content["seal"], content["proof"]
    archive.derivatives.objects[f"{key}.json"] = json.dumps(content).encode()
    assert verdicts(archive, key) == FINE | {Check.SEAL: Verdict.NOT_CHECKED}


def test_a_sidecar_of_version_2_is_fine(archive):
    key = archive.deliver("a.png", scan(), [RESTORED])

    def age(content):
        content["schema_version"] = 2
        del content["environment"]

    reseal(archive, key, age)
    assert verdicts(archive, key) == FINE


def forge(archive, key, change):
    """Change a derivative's samples, and make the sidecar name the new bytes."""
    whole = archive.derivative(key)
    photograph = decode(whole, limits=Limits(1_000_000))
    images = [page.pixels.copy() for page in photograph.pages]
    change(images)
    forged = encode(photograph, images, output="same", jpeg_quality=95, software="x").data
    archive.derivatives.objects[key] = forged
    reseal(archive, key, lambda content: content["derivative"].update(recorded(forged)))


def flip(page, x, y):
    def change(images):
        images[page][y, x] ^= 1

    return change


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_one_level_outside_the_regions_is_found_where_all_hashes_fit(archive, depth):
    key = archive.deliver("a.png", scan(depth=depth), [RESTORED])
    forge(archive, key, flip(0, 25, 30))
    found = check_one(archive, key)
    assert found[Check.DERIVATIVE].verdict is Verdict.FINE
    assert found[Check.PIXELS].verdict is Verdict.WRONG
    assert f"3 of {(40 * 30 - 16 * 18) * 3} samples" in found[Check.PIXELS].detail


def test_inside_the_regions_anything_may_be(archive):
    key = archive.deliver("a.png", scan(), [RESTORED])
    forge(archive, key, flip(0, 10, 10))
    assert verdicts(archive, key) == FINE


def test_the_region_of_a_face_that_was_left_alone_excuses_nothing(archive):
    key = archive.deliver("a.png", scan(), [LEFT_ALONE])
    forge(archive, key, flip(0, 10, 10))
    reseal(archive, key, lambda content: content["faces"][0].update(region=[0, 0, 30, 40]))
    assert verdicts(archive, key)[Check.PIXELS] is Verdict.WRONG


def test_a_page_is_as_large_as_recorded(archive):
    key = archive.deliver("a.png", scan(), [RESTORED])
    reseal(archive, key, lambda content: content["pages"][0].update(width=10**9))
    result = check_one(archive, key)[Check.PIXELS]
    assert result.verdict is Verdict.WRONG
    assert "sizes" in result.detail


def test_a_region_counts_on_its_own_page_only(archive):
    key = archive.deliver("a.tif", tiff(noise(0), noise(1)), [RESTORED], [])
    forge(archive, key, flip(1, 10, 10))
    result = check_one(archive, key)[Check.PIXELS]
    assert result.verdict is Verdict.WRONG
    assert "page 2" in result.detail


@pytest.mark.parametrize(
    ("master", "word"),
    [
        (tiff(noise(0), noise(1)), "pages"),
        (tiff(noise(0, (41, 30, 3))), "another size"),
        (tiff(noise(0, dtype=np.uint16)), "another size, depth"),
        (tiff(noise(0, (40, 30))), "number of channels"),
        (b"rubbish", "decoded"),
    ],
)
def test_a_master_that_cannot_be_the_derivatives_own_is_found(archive, master, word):
    key = archive.deliver("a.tif", tiff(noise(0)), [RESTORED])
    archive.masters.objects["a.tif"] = master

    def rename(content):
        content["master"].update(recorded(master))
        content["identity"]["master_sha256"] = content["master"]["sha256"]

    reseal(archive, key, rename)
    result = check_one(archive, key)[Check.PIXELS]
    assert result.verdict is Verdict.WRONG
    assert word in result.detail


def test_a_picture_too_large_for_this_machine_is_not_checked(archive):
    key = archive.deliver("a.png", scan(), [RESTORED], recipe=Recipe())
    result = check_one(archive, key, max_pixels=100)[Check.PIXELS]
    assert result.verdict is Verdict.NOT_CHECKED
    assert "limit" in result.detail


def test_only_one_photo_is_in_hand_at_a_time(full_archive):
    read = []
    store = full_archive.derivatives
    get = store.get
    store.get = lambda key: read.append(key) or get(key)
    next(verify_all(store, None, decode=decode, limits=Limits(1_000_000)))
    assert len(read) == 2
