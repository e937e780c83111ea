"""The sums of docs/detection.md against its own table and the benchmark's numbers."""

import json
from pathlib import Path

import pytest

from benchmarks.detection import count_by_eye

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
PAGE = (DOCS / "detection.md").read_text(encoding="utf-8")


def rows(heading):
    """The cells of the table whose first heading this is."""
    lines = PAGE.split(f"| {heading} |")[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize(("place", "column"), [(0, 2), (1, 5), (2, 6)])
def test_the_sums_are_those_of_the_files(place, column):
    files = rows("file")
    exact = [(int(row[column]), count_by_eye(row[1])) for row in files if count_by_eye(row[1])]
    found = sum(min(finds, wanted) for finds, wanted in exact)
    _, said, in_all, _ = rows("detector")[place]
    assert (said, in_all) == (str(found), str(sum(int(row[column]) for row in files)))


def test_the_faces_and_files_that_are_counted_are_those_of_the_table():
    counts = [count_by_eye(row[1]) for row in rows("file")]
    exact = [count for count in counts if count is not None]
    assert f"of the {sum(exact)} in {len(exact)} files" in PAGE
    assert f"{len(counts)} of which are listed" in PAGE
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"mistaken on {len(counts)} files" in readme
    numbers = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    assert f"{rows('detector')[0][1]} of {sum(exact)} faces" in numbers


def test_the_table_has_the_numbers_of_the_benchmark():
    kept = json.loads((DOCS / "benchmarks" / "detection.json").read_text(encoding="utf-8"))
    told = [
        [row["file"], *(str(row[key]) for key in ("sure", "doubtful", "restored"))] for row in kept
    ]
    assert [[row[0], *row[2:5]] for row in rows("file")] == told
