"""The pages under docs/ against the code they describe."""

import inspect
import re
from pathlib import Path

import pytest

import gpen_engine.errors
import jobs.errors
import producer.errors
import worker.export.errors
from gpen_engine import Detail, Reason
from jobs.ledger import Ledger
from jobs.schema import TRANSITIONS, PhotoState

DOCS = Path(__file__).parents[3] / "docs"
MODULES = (jobs.errors, gpen_engine.errors, producer.errors, worker.export.errors)


def error_classes(module):
    return [
        value
        for _, value in inspect.getmembers(module, inspect.isclass)
        if value.__module__ == module.__name__ and "code" in vars(value)
    ]


@pytest.mark.parametrize("module", MODULES)
def test_every_error_is_listed_with_its_advice(module):
    page = (DOCS / "errors.md").read_text(encoding="utf-8")
    for error in error_classes(module):
        assert f"| `{error.code}` |" in page, error
        assert f"| {error.advice} |" in page, error


def test_the_page_lists_no_code_that_no_error_has():
    page = (DOCS / "errors.md").read_text(encoding="utf-8")
    codes = {error.code for module in MODULES for error in error_classes(module)}
    assert set(re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)) == codes


def test_what_has_one_code_has_one_advice():
    told = {(error.code, error.advice) for module in MODULES for error in error_classes(module)}
    codes = [code for code, _ in told]
    assert len(codes) == len(set(codes))


def test_the_diagram_of_states_is_the_table_of_the_code():
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    section = page.split("## A photo's states")[1].split("\n## ")[0]
    drawn = {
        (leaves, enters, frozenset(by.split(", ")))
        for leaves, enters, by in re.findall(r"^ +(\w+) --> (\w+) : (.+)$", section, re.MULTILINE)
    }
    assert drawn == {
        (leaves, enters, by)
        for leaves, following in TRANSITIONS.items()
        for enters, by in following.items()
    }
    assert re.findall(r"(\w+) --> \[\*\]", section) == [
        state for state in PhotoState if not TRANSITIONS[state]
    ]


def test_every_method_that_the_diagram_names_is_one_of_the_ledger():
    for following in TRANSITIONS.values():
        for name in frozenset[str]().union(*following.values()):
            assert callable(getattr(Ledger, name))


def test_the_sidecar_page_explains_every_reason_and_detail():
    page = (DOCS / "sidecar.md").read_text(encoding="utf-8")
    for word in (*Reason, *Detail):
        assert f"`{word}`" in page
