"""The record that weights' terms were accepted."""

import getpass
import json
from dataclasses import asdict, replace
from datetime import UTC, datetime

import pytest

from gpen_engine import terms, weights
from gpen_engine.errors import CheckpointCorrupt, CheckpointError, TermsNotAccepted
from gpen_engine.terms import How, accept, recorded, terms_accepted
from gpen_engine.weights import CODEFORMER_0_1_0, GPEN_BFR_256, GPEN_BFR_512, RETINAFACE_MOBILE


def record_of(folder):
    (path,) = folder.glob("*.json")
    return path


def test_an_acceptance_is_found_again(tmp_path):
    made = accept(tmp_path / "new", GPEN_BFR_512, How.TERMINAL)

    assert recorded(tmp_path / "new", GPEN_BFR_512) == made
    assert weights.acceptance(tmp_path / "new", GPEN_BFR_512.sha256) == made
    assert terms_accepted(tmp_path / "new", GPEN_BFR_512)


def test_an_acceptance_holds_for_the_very_weights_only(tmp_path):
    accept(tmp_path, GPEN_BFR_512, How.TERMINAL)

    assert not terms_accepted(tmp_path, GPEN_BFR_256)
    assert not terms_accepted(tmp_path, CODEFORMER_0_1_0)
    assert not terms_accepted(tmp_path, replace(GPEN_BFR_512, sha256="0" * 64))


def test_terms_that_are_worded_anew_have_to_be_accepted_anew(tmp_path):
    accept(tmp_path, GPEN_BFR_512, How.TERMINAL)

    assert not terms_accepted(tmp_path, replace(GPEN_BFR_512, terms="none at all"))


def test_the_record_has_the_terms_in_words_the_moment_and_the_way(tmp_path):
    before = datetime.now(UTC).replace(microsecond=0)

    accept(tmp_path, GPEN_BFR_512, How.TERMINAL)

    record = json.loads(record_of(tmp_path).read_text())
    assert record["terms"] == GPEN_BFR_512.terms
    assert record["sha256"] == GPEN_BFR_512.sha256
    assert record["how"] == "terminal"
    assert before <= datetime.fromisoformat(record["accepted_at"]) <= datetime.now(UTC)


def test_the_record_says_nothing_about_the_person(tmp_path, monkeypatch):
    monkeypatch.setenv("USER", "jane.doe.of.the.archive")
    monkeypatch.setenv("LOGNAME", "jane.doe.of.the.archive")
    assert getpass.getuser() == "jane.doe.of.the.archive"

    made = accept(tmp_path, GPEN_BFR_512, How.FLAG)

    assert "jane" not in record_of(tmp_path).read_text()
    assert set(asdict(made)) == {"name", "sha256", "terms", "accepted_at", "how"}


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"how": "shouting"}', '{"how": "flag"}'])
def test_a_damaged_record_is_named_rather_than_believed(tmp_path, content):
    accept(tmp_path, GPEN_BFR_512, How.FLAG)
    record_of(tmp_path).write_text(content)

    with pytest.raises(CheckpointCorrupt, match=r"gpen-bfr-512\.terms\.json"):
        terms_accepted(tmp_path, GPEN_BFR_512)


def test_accepting_again_writes_over_a_damaged_record(tmp_path):
    accept(tmp_path, GPEN_BFR_512, How.FLAG)
    record_of(tmp_path).write_text("{")

    accept(tmp_path, GPEN_BFR_512, How.FLAG)

    assert terms_accepted(tmp_path, GPEN_BFR_512)


def test_weights_that_ask_for_nothing_need_no_record(tmp_path):
    terms.require(tmp_path, RETINAFACE_MOBILE, accept_terms=True)

    assert terms_accepted(None, RETINAFACE_MOBILE)
    assert list(tmp_path.iterdir()) == []


def test_without_a_folder_nothing_was_accepted():
    assert not terms_accepted(None, GPEN_BFR_512)
    assert weights.acceptance(None, GPEN_BFR_512.sha256) is None
    assert weights.acceptance(None, "0" * 64) is None


def test_terms_are_refused_with_their_words(tmp_path):
    with pytest.raises(TermsNotAccepted, match=r"codeformer-0\.1\.0.*S-Lab"):
        terms.require(tmp_path, CODEFORMER_0_1_0, accept_terms=False)

    assert list(tmp_path.iterdir()) == []


def test_a_record_that_cannot_be_written_is_no_acceptance(tmp_path):
    (tmp_path / "weights").write_text("a file")

    with pytest.raises(CheckpointError, match="can't be written"):
        accept(tmp_path / "weights", GPEN_BFR_512, How.FLAG)

    assert not terms_accepted(tmp_path / "weights", GPEN_BFR_512)
