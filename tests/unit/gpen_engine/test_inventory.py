"""What lies in the weights folder, and how files get in without the network."""

import hashlib

import pytest

from gpen_engine import files, inventory, weights
from gpen_engine.errors import CheckpointCorrupt, CheckpointError, TermsNotAccepted
from gpen_engine.inventory import Verdict, Whereabouts, adopt, recognize, verify, whereabouts
from gpen_engine.registry import COMPACT, Kind, KnownWeights
from gpen_engine.terms import How, accept, recorded
from gpen_engine.weights import COMPACT_FILE

CONTENT = b"tensors"
FREE = KnownWeights(
    "free",
    ("free.pth", "old-free.pth"),
    hashlib.sha256(CONTENT).hexdigest(),
    "MIT",
    kind=Kind.PARSER,
    size_bytes=len(CONTENT),
    address="https://weights.invalid/free.pth",
)
ASKING = KnownWeights(
    "asking",
    ("asking.pth",),
    hashlib.sha256(b"asking" + CONTENT).hexdigest(),
    "for nobody's use",
    ask=True,
)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    for module in (weights, inventory):
        monkeypatch.setattr(module, "KNOWN", (COMPACT, FREE, ASKING))


def verdicts(folder):
    return {file.path.name: file.verdict for file in verify(folder)}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_every_file_is_hashed_and_judged(tmp_path):
    (tmp_path / "free.pth").write_bytes(CONTENT)
    (tmp_path / "asking.pth").write_bytes(b"another training")
    (tmp_path / "mine.pth").write_bytes(b"my own")
    (tmp_path / "old-free.pth.part").write_bytes(CONTENT[:3])

    assert verdicts(tmp_path) == {
        "free.pth": Verdict.OK,
        "asking.pth": Verdict.DAMAGED,
        "mine.pth": Verdict.UNKNOWN,
        "old-free.pth.part": Verdict.INCOMPLETE,
    }


def test_one_flipped_bit_is_damage(tmp_path):
    (tmp_path / "free.pth").write_bytes(bytes([CONTENT[0] ^ 1]) + CONTENT[1:])

    assert verdicts(tmp_path) == {"free.pth": Verdict.DAMAGED}


def test_known_weights_under_another_name_are_recognized(tmp_path):
    (tmp_path / "download (1)").write_bytes(CONTENT)

    (file,) = verify(tmp_path)

    assert (file.verdict, file.known, file.sha256) == (Verdict.OK, FREE, FREE.sha256)


def test_records_hidden_files_and_folders_are_no_weights(tmp_path):
    accept(tmp_path, ASKING, How.FLAG)
    (tmp_path / ".DS_Store").touch()
    (tmp_path / "more").mkdir()

    assert verdicts(tmp_path) == {}


def test_a_folder_that_is_not_there_holds_nothing(tmp_path):
    assert verdicts(tmp_path / "nowhere") == {}


def test_a_file_that_cannot_be_read_is_said_and_the_others_are_judged(tmp_path, monkeypatch):
    (tmp_path / "free.pth").write_bytes(CONTENT)
    (tmp_path / "old-free.pth").write_bytes(CONTENT)
    read = files.digest_of

    def broken(path):  # nothing is unreadable for the superuser
        if path.name == "free.pth":
            raise CheckpointError("an I/O error")
        return read(path)

    monkeypatch.setattr(inventory, "digest_of", broken)

    assert verdicts(tmp_path) == {
        "free.pth": Verdict.UNREADABLE,
        "old-free.pth": Verdict.OK,
    }


def test_where_weights_are(tmp_path):
    assert whereabouts(COMPACT, tmp_path) is Whereabouts.SHIPPED
    assert whereabouts(FREE, tmp_path) is Whereabouts.FETCHABLE
    assert whereabouts(FREE, None) is Whereabouts.FETCHABLE
    assert whereabouts(ASKING, tmp_path) is Whereabouts.BY_HAND
    (tmp_path / "old-free.pth").touch()
    assert whereabouts(FREE, tmp_path) is Whereabouts.HERE


def test_a_file_is_copied_in_under_the_name_it_is_looked_for_by(tmp_path):
    mine = tmp_path / "Download (1).bin"
    mine.write_bytes(CONTENT)

    path = adopt(mine, tmp_path / "new" / "weights")

    assert path == tmp_path / "new" / "weights" / "free.pth"
    assert path.read_bytes() == CONTENT == mine.read_bytes()
    assert names(path.parent) == ["free.pth"]


def test_a_file_that_is_there_is_not_copied_again(tmp_path):
    (tmp_path / "old-free.pth").write_bytes(CONTENT)

    assert adopt(tmp_path / "old-free.pth", tmp_path) == tmp_path / "old-free.pth"
    assert names(tmp_path) == ["old-free.pth"]


def test_a_damaged_file_makes_room_and_is_kept(tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "free.pth").write_bytes(b"damaged")
    (tmp_path / "mine.pth").write_bytes(CONTENT)

    adopt(tmp_path / "mine.pth", folder)

    assert (folder / "free.pth").read_bytes() == CONTENT
    assert (folder / "free.pth.replaced").read_bytes() == b"damaged"


def test_an_unknown_file_is_refused_with_the_known_names_and_the_way_around(tmp_path):
    mine = tmp_path / "mine.pth"
    mine.write_bytes(b"my own")

    with pytest.raises(CheckpointError, match=r"free, asking.*--weights .*mine\.pth"):
        adopt(mine, tmp_path / "weights")

    assert names(tmp_path) == ["mine.pth"]


def test_what_is_shipped_need_not_be_imported(tmp_path):
    assert recognize(COMPACT_FILE) == COMPACT
    with pytest.raises(CheckpointError, match="comes with gpen-archive"):
        adopt(COMPACT_FILE, tmp_path)


def test_terms_are_asked_for_before_the_copy(tmp_path):
    mine = tmp_path / "mine.pth"
    mine.write_bytes(b"asking" + CONTENT)

    with pytest.raises(TermsNotAccepted, match="for nobody's use"):
        adopt(mine, tmp_path / "weights")
    assert names(tmp_path) == ["mine.pth"]

    adopt(mine, tmp_path / "weights", accept_terms=True)
    assert recorded(tmp_path / "weights", ASKING).how is How.FLAG


def test_a_file_that_changes_while_it_is_copied_does_not_get_in(tmp_path, monkeypatch):
    mine = tmp_path / "mine.pth"
    mine.write_bytes(CONTENT)
    seen = inventory.recognize

    def then_changed(file):
        known = seen(file)
        file.write_bytes(b"changed")
        return known

    monkeypatch.setattr(inventory, "recognize", then_changed)

    with pytest.raises(CheckpointCorrupt, match="changed while"):
        adopt(mine, tmp_path / "weights")
    assert names(tmp_path / "weights") == []


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"gone\.pth can't be read"):
        adopt(tmp_path / "gone.pth", tmp_path)


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    def refused(_path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(inventory.Path, "iterdir", refused)

    with pytest.raises(CheckpointError, match="Permission denied"):
        list(verify(tmp_path))
