"""The sheet of `make demo`: pairs that can be told apart, and what is written beside them."""

import json

import numpy as np
import pytest
from PIL import Image, ImageDraw

from demo.contact_sheet import Delivered, contact_sheet

BEFORE, AFTER = (200, 0, 0), (0, 0, 200)


@pytest.fixture
def photo(tmp_path):
    """A photo of three faces, all alike."""
    paths = [tmp_path / name for name in ("a.png", "a.restored.png", "a.restored.png.json")]
    for path, colour in zip(paths, (BEFORE, AFTER), strict=False):
        Image.new("RGB", (100, 100), colour).save(path)
    face = {"page": 0, "restored": True, "score": 0.9}
    face |= {"box": [10.2, 10.4, 70.1, 90.3], "region": [0, 0, 75, 100]}
    paths[2].write_text(json.dumps({"faces": [face] * 3}))
    return Delivered(*paths)


def stretches(sheet, colour):
    """Where the pictures of a colour begin and end, from left to right."""
    columns = (np.asarray(sheet) == colour).all(axis=2).any(axis=0)
    edges = np.flatnonzero(np.diff(columns.astype(int), prepend=0, append=0))
    return edges.reshape(-1, 2)


def test_what_belongs_together_stands_far_closer_than_what_does_not(photo):
    sheet = contact_sheet([photo])
    before, after = stretches(sheet, BEFORE), stretches(sheet, AFTER)
    assert len(before) == len(after) == 3
    inside = after[:, 0] - before[:, 1]
    between = before[1:, 0] - after[:-1, 1]
    assert (between > 10 * inside[1:]).all()
    assert (inside > 0).all()


def test_each_picture_says_before_or_after_and_each_pair_how_large_its_face_is(photo, monkeypatch):
    said = []
    write = ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        ImageDraw.ImageDraw,
        "text",
        lambda pen, place, text, **how: said.append(text) or write(pen, place, text, **how),
    )
    contact_sheet([photo])
    assert said == ["before", "after", "a.png   face 60 by 80 px   score 0.90"] * 3
