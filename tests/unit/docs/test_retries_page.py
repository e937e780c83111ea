"""docs/errors.md and docs/operations.md against the retries and signals that they describe."""

import re
from pathlib import Path

import yaml

from worker.app import SpreadConsumer
from worker.retry import LEDGER_WAITS, RULES, Counted, Drop, Fail, Rule, Stop
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[3]
ERRORS = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
OPERATIONS = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
ENDS = {
    Fail: "the photo fails with the error's code",
    Stop: "the worker stops",
    Drop: "nothing: it is that worker's",
}


def cells(row):
    return [cell.strip() for cell in row.strip("|").split("|")]


def told(rule: Rule) -> list[str]:
    """Return a rule as the page should show it."""
    if rule.waits is None:
        return [rule.what, "1", "", "", ENDS[rule.end]]
    waits = rule.waits
    tries = str(rule.most_tries or "`GPEN_MAX_ATTEMPTS`")
    return [
        rule.what,
        f"one in each larger memory class, then {tries}" if rule.moves else tries,
        f"{waits.first_s:g} s, {waits.growth:g} times as long each time, {waits.longest_s:g} s at "
        "most",
        rule.counted,
        ENDS[rule.end],
    ]


def test_the_page_shows_the_table_of_retries_row_by_row():
    section = ERRORS.split("## What is tried again")[1].split("\n## ")[0]
    shown = [cells(row) for row in section.splitlines() if row.startswith("|")]
    assert shown[2:] == [told(rule) for rule in RULES]


def test_the_page_says_how_long_the_tries_of_a_service_take():
    [away] = (rule for rule in RULES if rule.counted is Counted.OUTAGE)
    least_s, most_s = (
        sum(away.waits.after(n, draw=draw) for n in range(1, away.most_tries)) for draw in (0, 1)
    )
    assert 1800 <= least_s < most_s <= 3900
    assert "half an hour to an hour" in ERRORS


def test_the_page_says_how_a_ledger_is_waited_for():
    first_s, longest_s = LEDGER_WAITS.first_s, LEDGER_WAITS.longest_s
    assert f"after {first_s:g} s, then twice as long each time, {longest_s:g} s at most" in ERRORS
    assert LEDGER_WAITS.growth == 2
    assert f"up to {SpreadConsumer.spread_s:g} s of chance" in ERRORS


def test_the_grace_is_the_same_everywhere_and_compose_kills_later():
    grace_s = WorkerSettings().grace_s
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    for name in ("worker", "worker-cpu"):
        period = compose["services"][name]["stop_grace_period"]
        assert int(period.removesuffix("s")) >= grace_s + 30
        assert f"`docker-compose.yml` is {period[:-1]} s" in OPERATIONS
    assert f"`GPEN_GRACE_S` ({grace_s:g} s)" in OPERATIONS
    assert re.search(rf"^#GPEN_GRACE_S={grace_s}$", (ROOT / ".env.example").read_text(), re.M)
