"""Whatever a file is called: no key leads out of a store, and no two end in one name.

100,000 names drawn from a seed, made of what has led programs astray: parts that climb, other
alphabets' slashes and dots, reserved names, bytes that are no text, names that some disk takes for
the same. What becomes of a key that is accepted is looked at on a real disk, from outside.
"""

import os
import random
import unicodedata
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import pytest

from jobs.directory import DirectoryStore
from jobs.errors import JobError, OutputConflict, PhotoMissing, StoreUnavailable, UnsafeKey
from jobs.s3 import S3Store, _make_client
from jobs.schema import (
    MAX_MASTER_KEY_BYTES,
    MAX_OBJECT_KEY_BYTES,
    check_key,
    derivative_key,
    sidecar_key,
)
from jobs.settings import JobSettings
from worker.export.names import Names

SEED = 20_060
KEYS = 100_000
WRITTEN = 5_000
SUFFIXES = (".png", ".tif", ".jpg")
CLIMBING = (
    "..",
    ".",
    "",
    "~",
    "~root",
    "...",
    ". .",
    "..\u200b",
    "%2e%2e",
    "..%2f",
    "-rf",
    "$HOME",
)
SLASHES = ("/", "//", "\\", "\u2215", "\uff0f", "\u2044", "%2f", "/./", "/../")
DOTS = ("\u2024", "\u2025", "\uff0e", "\u3002", "\u2024\u2024", "\uff0e\uff0e")
RESERVED = ("CON", "nul.txt", "AUX.tif", "COM1", "a:b", "a.tif::$DATA", "a.", "a ", " a", "a. .")
STEERING = ("\0", "\x01", "\n", "\r\n", "\t", "\x1b[2J", "\x7f", "\x85", "\x9b", "\u2028")
HIDDEN = ("\u202e", "\u202d", "\u200b", "\u200d", "\ufeff", "\u2066", "\u00ad", "\ufffe", "\uffff")
SAME = (
    "é",
    "e\u0301",
    "É",
    "ß",
    "SS",
    "ss",
    "İ",
    "i\u0307",
    "\u0131",
    "K",
    "\u212a",
    "Å",
    "\u212b",
)
NO_TEXT = ("\udc80", "\ud83d", "\udcff.jpg")
LONG = ("a" * 255, "ü" * 128, "ü" * 127, "b" * 899, "c" * 900, "d" * 901, "x/" * 450)
PLAIN = ("a", "b", "scan", "1920", "Z", "ü", "写真", "photo 1", "a.b", "100%", "'", '"', "*?", "#")
ENDINGS = (
    "",
    ".tif",
    ".TIF",
    ".tiff",
    ".jpg",
    ".jpeg",
    ".png",
    ".json",
    ".restored",
    ".",
    "..",
    "~",
)
MARKS = (".restored.png", ".restored.png.json", ".restored..png", ".partial", ".gpen-archive")
ATOMS = (CLIMBING, SLASHES, DOTS, RESERVED, STEERING, HIDDEN, SAME, NO_TEXT, LONG, MARKS)
NOWHERE = JobSettings(
    s3_endpoint_url="http://127.0.0.1:9", s3_access_key_id="x", s3_secret_access_key="y"
)


def seeded() -> random.Random:
    return random.Random(SEED)  # noqa: S311 - no secret


def draw_keys() -> list[str]:
    """Return different names, most of them half sound: a sound one with something in it."""
    draw = seeded()
    keys: dict[str, None] = {}
    while len(keys) < KEYS:
        parts = [draw.choice(PLAIN) for _ in range(draw.randint(1, 4))]
        for _ in range(draw.choice((0, 1, 1, 2, 3))):
            parts.insert(draw.randint(0, len(parts)), draw.choice(draw.choice(ATOMS)))
        if draw.random() < 0.1:
            parts.append(chr(draw.randrange(0x110000)))
        keys[draw.choice(("", "", "/", ".")).join(parts) + draw.choice(ENDINGS)] = None
    return list(keys)


def is_accepted(key: str, *, max_bytes: int = MAX_MASTER_KEY_BYTES) -> bool:
    try:
        return check_key(key, max_bytes=max_bytes) == key
    except UnsafeKey:
        return False


@pytest.fixture(scope="module")
def keys() -> list[str]:
    return draw_keys()


@pytest.fixture(scope="module")
def accepted(keys: list[str]) -> list[str]:
    return [key for key in keys if is_accepted(key)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "around" / "store"
    root.mkdir(parents=True)
    return root


def test_keys_are_drawn_of_both_kinds(keys: list[str], accepted: list[str]) -> None:
    assert len(keys) == KEYS
    assert KEYS / 4 < len(accepted) < KEYS * 3 / 4


def test_an_accepted_key_is_relative_and_nothing_in_it_climbs(accepted: list[str]) -> None:
    for key in accepted:
        parts = key.split("/")
        assert not {"", ".", ".."} & set(parts), key
        assert str(PurePosixPath(key)) == key
        assert not any(unicodedata.category(char) == "Cs" or char in "\0\\" for char in key)
        assert len(key.encode()) <= MAX_MASTER_KEY_BYTES


def test_no_two_keys_share_the_name_of_a_derivative_or_a_sidecar(accepted: list[str]) -> None:
    owner: dict[str, str] = {}
    for key in accepted:
        for derivative in {derivative_key(key, suffix) for suffix in SUFFIXES}:
            for name in (derivative, sidecar_key(derivative)):
                assert owner.setdefault(name, key) == key, name
                assert len(name.encode()) <= MAX_OBJECT_KEY_BYTES
                assert posix_folder(name) == posix_folder(key)
                check_key(name, max_bytes=MAX_OBJECT_KEY_BYTES)


def test_no_derivative_or_sidecar_has_the_name_of_a_master(accepted: list[str]) -> None:
    masters = {
        key for key in accepted if ".restored." not in key
    }  # others aren't taken for masters
    for key in masters:
        for suffix in SUFFIXES:
            derivative = derivative_key(key, suffix)
            assert not {derivative, sidecar_key(derivative)} & masters


def test_in_a_bag_every_key_has_a_name_of_its_own_on_any_disk(accepted: list[str]) -> None:
    names = Names()
    taken: dict[str, str] = {}
    for key in accepted:
        name = names.name(key)
        folded = unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())
        assert taken.setdefault(folded, key) == key, name
        assert not {"", ".", ".."} & set(name.split("/"))
        assert all(len(part.encode()) <= 255 for part in name.split("/"))


def test_what_is_written_lies_inside_and_can_be_read_by_its_key(
    root: Path, accepted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # for speed: nobody pulls the plug
    store = DirectoryStore(root)
    written: dict[str, bytes] = {}
    for number, key in enumerate(seeded().sample(accepted, WRITTEN)):
        data = str(number).encode()
        try:
            store.put_once(key, data, content_type="image/png")
        except (OutputConflict, UnsafeKey):  # a file where a folder is; a part that is too long
            continue
        written[key] = data

    assert len(written) > WRITTEN / 2
    assert all(store.get(key) == data for key, data in written.items())
    found = [Path(folder, name) for folder, _, names in os.walk(root) for name in names]
    assert {str(path.relative_to(root)) for path in found} == set(written)
    assert all(os.path.realpath(path).startswith(f"{root}/") for path in found)
    assert [path.name for path in root.parent.iterdir()] == ["store"]
    assert [path.name for path in root.parent.parent.iterdir()] == ["around"]


def test_a_refused_key_is_refused_by_every_door_of_a_store(root: Path, keys: list[str]) -> None:
    refused = [key for key in keys if not is_accepted(key, max_bytes=MAX_OBJECT_KEY_BYTES)]
    for store in (DirectoryStore(root), S3Store("s3://bucket/prefix", NOWHERE)):
        for key in seeded().sample(refused, 500):
            with pytest.raises(UnsafeKey):
                store.head(key)
            with pytest.raises(UnsafeKey):
                store.get(key)
            with pytest.raises(UnsafeKey):
                store.put_once(key, b"", content_type="image/png")
    assert listed(root) == []


def test_a_key_reaches_an_s3_server_as_it_is(accepted: list[str]) -> None:
    client = _make_client(NOWHERE)
    for key in seeded().sample(accepted, 2_000):
        url = client.generate_presigned_url("get_object", {"Bucket": "b", "Key": f"p/{key}"})
        assert unquote(urlsplit(url).path) == f"/b/p/{key}"


def listed(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def posix_folder(key: str) -> str:
    return key.rpartition("/")[0]


# Links, and what takes their place


@pytest.fixture
def outside(root: Path) -> Path:
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "secret.jpg").write_bytes(b"secret")
    return outside


def test_nothing_is_written_or_read_through_a_linked_folder(root: Path, outside: Path) -> None:
    (root / "album").symlink_to(outside)
    store = DirectoryStore(root)

    with pytest.raises(UnsafeKey):
        store.put_once("album/a.png", b"1", content_type="image/png")
    with pytest.raises(UnsafeKey):
        store.put_once("album/deep/a.png", b"1", content_type="image/png")
    with pytest.raises(UnsafeKey):
        store.get("album/secret.jpg")
    assert listed(outside) == ["secret.jpg"]


def test_a_linked_file_is_not_written_through(root: Path, outside: Path) -> None:
    (root / "a.png").symlink_to(outside / "new.png")
    store = DirectoryStore(root)

    with pytest.raises(UnsafeKey):
        store.put_once("a.png", b"1", content_type="image/png")
    assert listed(outside) == ["secret.jpg"]


class Swapped(DirectoryStore):
    """A store in whose directory somebody puts a link, between the look at a key and its use."""

    swap = staticmethod(lambda: None)

    def _path(self, key: str) -> Path:
        path = super()._path(key)
        self.swap()
        return path


@pytest.fixture
def swapped(root: Path, outside: Path) -> Swapped:
    (root / "album" / "deep").mkdir(parents=True)
    (root / "album" / "secret.jpg").write_bytes(b"harmless")
    store = Swapped(root)

    def swap() -> None:
        (root / "album").rename(root / "before")
        (root / "album").symlink_to(outside)

    store.swap = swap
    return store


@pytest.mark.parametrize("key", ["album/a.png", "album/deep/a.png", "album/new/a.png"])
def test_a_folder_that_becomes_a_link_meanwhile_is_no_way_out(
    swapped: Swapped, outside: Path, key: str
) -> None:
    with pytest.raises(JobError):
        swapped.put_once(key, b"1", content_type="image/png")

    assert listed(outside) == ["secret.jpg"]


def test_a_folder_that_becomes_a_link_meanwhile_is_not_read_through(swapped: Swapped) -> None:
    with pytest.raises(PhotoMissing):
        swapped.get("album/secret.jpg")


def test_a_file_that_becomes_a_link_meanwhile_is_neither_read_nor_compared(
    root: Path, outside: Path
) -> None:
    (root / "a.jpg").write_bytes(b"harmless")
    store = Swapped(root)

    def swap() -> None:
        (root / "a.jpg").unlink(missing_ok=True)
        (root / "a.jpg").symlink_to(outside / "secret.jpg")

    store.swap = swap
    with pytest.raises(UnsafeKey, match="link"):
        store.get("a.jpg")
    (root / "a.jpg").unlink()
    with pytest.raises(UnsafeKey, match="link"):
        store.put_once("a.jpg", b"secret", content_type="image/jpeg")


def test_a_directory_that_becomes_a_link_is_not_written_to(root: Path, outside: Path) -> None:
    store = DirectoryStore(root)
    root.rename(root.with_name("before"))
    root.symlink_to(outside)

    with pytest.raises((OutputConflict, StoreUnavailable, UnsafeKey)):
        store.put_once("a.png", b"1", content_type="image/png")
    assert listed(outside) == ["secret.jpg"]
