"""Levels, tiles and turns of a picture, and how finds in them become one list of faces."""

import itertools
import tracemalloc
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpen_engine.faces import Face
from gpen_engine.views import Find, Tile, cut_tiles, level_factors, locate, merge, see

MARKS = ((30.0, 40.0), (70.0, 40.0), (50.0, 60.0), (35.0, 80.0), (65.0, 80.0))


def face(box, score=0.95):
    return Face(tuple(float(edge) for edge in box), MARKS, score)


def find(box, score=0.95, *, level=0, turns=0, factor=None, roll=0):
    """Make a find; `roll` says how the face is rolled in the view, in degrees."""
    side = max(box[2] - box[0], box[3] - box[1])
    turn = np.exp(1j * np.deg2rad(roll + 90 * turns))
    marks = [turn * complex(x - 50, y - 60) for x, y in MARKS]
    made = replace(face(box, score), landmarks=tuple((spot.real, spot.imag) for spot in marks))
    return Find(made, level, turns, side * (0.5**level if factor is None else factor))


# Levels


@pytest.mark.parametrize(
    ("longest", "finest"),
    [(100, 2.0), (1024, 2.0), (2048, 1.0), (4096, 0.5), (7016, 0.5), (30_000, 0.5)],
)
def test_small_pictures_are_doubled_and_large_scans_seen_at_half_size(longest, finest):
    assert level_factors((longest // 2, longest, 3), fine_side_px=2048)[0] == finest


@pytest.mark.parametrize("longest", [1, 400, 2000, 7016, 30_000])
def test_each_level_is_half_the_one_before_down_to_one_in_which_everything_fits(longest):
    factors = level_factors((longest, 10, 3), fine_side_px=2048)

    assert all(after == before / 2 for before, after in itertools.pairwise(factors))
    assert factors[-1] * longest <= 512
    assert len(factors) == 1 or factors[-2] * longest > 512


# Tiles


@settings(deadline=None)
@given(
    width=st.integers(1, 9000),
    height=st.integers(1, 3000),
    side=st.sampled_from([512, 640, 1024]),
    spot=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_a_face_of_128_px_is_whole_with_a_margin_in_some_tile_of_its_level(
    width, height, side, spot
):
    shape = (height, width, 3)
    factors = level_factors(shape, fine_side_px=2048)
    tiles = list(cut_tiles(shape, factors, side_px=side))

    for level, factor in enumerate(factors):
        margin = 32 / factor
        spans = [(spot[i] * max(0.0, n - 128 / factor), n) for i, n in enumerate((width, height))]
        box = [start for start, _ in spans] + [min(start + 128 / factor, n) for start, n in spans]
        assert any(
            (x0 == 0 or box[0] - x0 >= margin - 2)
            and (y0 == 0 or box[1] - y0 >= margin - 2)
            and (x1 == width or x1 - box[2] >= margin - 2)
            and (y1 == height or y1 - box[3] >= margin - 2)
            for x0, y0, x1, y1 in (tile.region for tile in tiles if tile.level == level)
        )


def test_no_tile_is_larger_than_asked_for_and_the_coarsest_level_is_one_tile():
    shape = (4960, 7016, 3)
    tiles = list(cut_tiles(shape, level_factors(shape, fine_side_px=2048), side_px=1024))

    assert max(max(tile.size) for tile in tiles) <= 1024
    assert [tile.region for tile in tiles if tile.level == tiles[-1].level] == [(0, 0, 7016, 4960)]


def test_a_tile_knows_on_which_sides_the_picture_goes_on():
    tiles = list(cut_tiles((600, 1800, 3), [1.0], side_px=1024))

    assert [tile.inner for tile in tiles] == [
        (False, False, True, False),
        (True, False, False, False),
    ]


# What is seen


def test_a_view_is_its_part_of_the_picture_averaged():
    picture = np.random.default_rng(1).integers(0, 256, (400, 600, 3)).astype(np.uint8)

    view = see(picture, Tile(0, (100, 200, 300, 400), (50, 50), (True,) * 4))

    expected = picture[200:400, 100:300].reshape(50, 4, 50, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(view, expected, rtol=0, atol=0.51)


def test_a_16_bit_picture_looks_as_its_8_bit_twin():
    picture = np.random.default_rng(1).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    tile = Tile(0, (0, 0, 64, 64), (32, 32), (False,) * 4)

    deep = see(picture.astype(np.uint16) * 257, tile)

    assert deep.dtype == np.uint8
    np.testing.assert_allclose(deep, see(picture, tile).astype(float), rtol=0, atol=1)


def test_a_small_picture_is_enlarged_smoothly():
    ramp = np.repeat(np.arange(0, 200, 4, dtype=np.uint8)[None, :, None], 3, axis=2)
    picture = np.repeat(ramp, 50, axis=0)

    view = see(picture, Tile(0, (0, 0, 50, 50), (100, 100), (False,) * 4))

    steps = np.diff(view[50, 10:90, 0].astype(int))
    assert set(steps) <= {1, 2, 3}


@pytest.mark.parametrize("kind", ["plain", "flipped", "turned"])
def test_the_memory_for_a_view_does_not_grow_with_the_picture(kind):
    # 16,000 x 16,000 px of 16 bits would be 1.5 GB; of this one only a pixel is stored.
    picture = np.broadcast_to(np.array([1, 2, 3], np.uint16) * 257, (16_000, 16_000, 3))
    picture = {"plain": picture, "flipped": picture[:, ::-1], "turned": np.rot90(picture)}[kind]
    tile = Tile(5, (0, 0, 16_000, 16_000), (500, 500), (False,) * 4)

    tracemalloc.start()
    view = see(picture, tile)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert (view == [1, 2, 3]).all()
    assert peak < 80 << 20


def test_strips_of_a_view_join_without_a_seam(monkeypatch):
    picture = cv2.resize(
        np.random.default_rng(2).integers(0, 256, (40, 40, 3)).astype(np.uint8), (1000, 1000)
    )
    tile = Tile(0, (0, 0, 1000, 1000), (437, 437), (False,) * 4)
    whole = see(picture, tile)

    monkeypatch.setattr("gpen_engine.views._STRIP_BYTES", 50_000)

    np.testing.assert_allclose(see(picture, tile), whole.astype(float), rtol=0, atol=6)


# Back into the picture


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_what_is_found_in_a_turned_view_is_located_in_the_upright_picture(turns):
    tile = Tile(1, (1000, 500, 1600, 900), (300, 200), (True,) * 4)
    view = np.zeros((200, 300), np.uint8)
    view[120, 80] = 255
    (v,), (u,) = np.nonzero(np.rot90(view, turns))
    row = [u - 10, v - 20, u + 10, v + 20, 0.9, *([u, v] * 5)]

    (located,) = locate(np.array([row], np.float64), tile, turns)

    # The middle of the level's pixel (80, 120) is that of four pixels of the picture.
    assert located.face.landmarks == ((1160.5, 740.5),) * 5
    x0, y0, x1, y1 = located.face.box
    assert ((x0 + x1) / 2, (y0 + y1) / 2) == (1160.5, 740.5)
    assert (x1 - x0, y1 - y0) == ((40, 80) if turns % 2 == 0 else (80, 40))
    assert (located.level, located.turns, located.side_px) == (1, turns, 40)


@pytest.mark.parametrize("inner", [True, False])
def test_a_face_at_the_edge_of_its_tile_counts_only_where_the_picture_ends_too(inner):
    tile = Tile(0, (0, 0, 200, 200), (200, 200), (inner,) * 4)
    boxes = [(5, 50, 85, 130), (50, 5, 130, 85), (115, 50, 195, 130), (50, 115, 130, 195)]
    rows = np.array([[*box, 0.9, *([box[0] + 40, box[1] + 40] * 5)] for box in boxes], np.float64)

    assert len(locate(rows, tile, 0)) == (0 if inner else 4)


# One list of faces


def test_a_face_found_at_several_levels_is_one_face_with_the_best_of_the_scores():
    finds = [find((100, 100, 200, 230), 0.95), find((104, 98, 202, 228), 0.99, level=1)]

    (merged,) = merge(finds, [1.0, 0.5])

    assert merged.box == (100, 100, 200, 230)
    assert merged.score == 0.99


def test_a_better_score_outweighs_a_better_size():
    finds = [find((100, 100, 200, 230), 0.6), find((104, 98, 202, 228), 0.99, level=1)]

    assert merge(finds, [1.0, 0.5])[0].box == (104, 98, 202, 228)


def test_two_faces_cheek_to_cheek_stay_two():
    finds = [find((100, 100, 200, 230)), find((170, 100, 270, 230))]

    assert len(merge(finds, [1.0])) == 2


def test_faces_come_the_most_certain_first():
    finds = [find((x, 0, x + 40, 40), score) for x, score in ((0, 0.5), (100, 0.9), (200, 0.7))]

    assert [merged.score for merged in merge(finds, [1.0])] == [0.9, 0.7, 0.5]


def test_no_finds_are_no_faces():
    assert merge([], [1.0, 0.5]) == []


def test_a_find_that_other_levels_should_see_and_do_not_counts_less():
    (merged,) = merge([find((0, 0, 120, 120), 0.95)], [1.0, 0.5])

    assert merged.score == pytest.approx(0.95 * 0.9)


def test_a_small_face_need_not_be_seen_at_a_coarser_level():
    (merged,) = merge([find((0, 0, 60, 60), 0.95)], [1.0, 0.5])

    assert merged.score == 0.95


def test_a_picture_with_one_level_needs_no_confirmation():
    (merged,) = merge([find((0, 0, 120, 120), 0.95)], [1.0])

    assert merged.score == 0.95


def test_a_face_in_a_turned_view_has_to_be_seen_at_two_levels_whatever_its_size():
    alone = [find((0, 0, 30, 30), 0.95, turns=1)]
    both = [*alone, find((0, 0, 30, 30), 0.4, level=1, turns=1)]

    assert merge(alone, [1.0, 0.5])[0].score == pytest.approx(0.95 * 0.9)
    assert merge(both, [1.0, 0.5])[0].score == 0.95


def test_a_turned_face_that_fills_the_picture_needs_no_level_at_which_it_is_too_large():
    box = (0, 0, 410, 410)
    alone = [find(box, 0.99, level=1, turns=3)]
    smaller = [find((0, 0, 300, 300), 0.99, level=1, turns=3)]

    assert merge(alone, [1.0, 0.5])[0].score == 0.99
    assert merge(smaller, [1.0, 0.5])[0].score == pytest.approx(0.99 * 0.9)


def test_a_box_beyond_the_anchors_confirms_a_turned_face():
    finds = [
        find((0, 0, 390, 390), 0.99, level=1, turns=3),
        find((0, 0, 410, 390), 0.99, turns=3),
    ]

    assert [merged.score for merged in merge(finds, [1.0, 0.5])] == [0.99]


@pytest.mark.parametrize(
    ("roll", "share"), [(0, 1.0), (45, 1.0), (55, 0.9), (-90, 0.9), (180, 0.9)]
)
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_face_that_lies_on_its_side_in_its_view_counts_less(turns, roll, share):
    (merged,) = merge([find((0, 0, 60, 60), 0.95, turns=turns, roll=roll)], [1.0])

    assert merged.score == pytest.approx(0.95 * share)


def test_a_face_of_which_the_levels_disagree_whether_it_stands_counts_less():
    box = (0, 0, 120, 120)
    finds = [find(box, 0.98), find(box, 0.97, level=1, roll=170)]
    doubtful = [find(box, 0.98), find(box, 0.4, level=1, roll=170)]

    assert merge(finds, [1.0, 0.5])[0].score == pytest.approx(0.98 * 0.9)
    assert merge(doubtful, [1.0, 0.5])[0].score == 0.98


def test_a_reading_that_stands_outweighs_a_more_certain_one_that_lies_on_its_side():
    box = (0, 0, 120, 120)
    finds = [
        *(find(box, 0.999, level=level, roll=80) for level in (0, 1)),
        *(find(box, 0.98, level=level, turns=1, roll=-10) for level in (0, 1)),
    ]

    (merged,) = merge(finds, [1.0, 0.5])

    assert merged.landmarks == finds[2].face.landmarks
    assert merged.score == 0.98


def test_the_views_in_which_a_face_is_upright_outweigh_the_others():
    box = (100, 100, 228, 228)
    finds = [
        find(box, 0.99, turns=3),
        find((110, 100, 238, 228), 0.98),
        find((110, 100, 238, 228), 0.98, level=1),
        find((110, 100, 238, 228), 0.4, level=1, turns=2),
    ]

    (merged,) = merge(finds, [1.0, 0.5])

    assert merged.box == (110, 100, 238, 228)
    assert merged.score == 0.98


def test_a_box_beyond_the_anchors_is_still_evidence_of_which_way_a_face_is_turned():
    large = (0, 0, 404, 404)
    finds = [
        find(large, 0.99),
        find(large, 0.99, level=1),
        find((20, 0, 400, 380), 0.98, turns=1),
        find((20, 0, 400, 380), 0.98, level=1, turns=1),
    ]

    (merged,) = merge(finds, [1.0, 0.5])

    assert merged.box == large


def test_the_pieces_into_which_a_large_face_falls_apart_are_left_out():
    large = find((0, 0, 600, 700), 0.99, level=1)
    eye, beside = find((100, 100, 250, 250), 0.97), find((800, 100, 840, 140), 0.97)

    boxes = [merged.box for merged in merge([large, eye, beside], [1.0, 0.5])]

    assert boxes == [large.face.box, beside.face.box]


def test_a_box_beyond_the_anchors_counts_only_at_the_coarsest_level():
    box = (0, 0, 500, 500)

    assert merge([find(box, level=0)], [1.0, 0.5]) == []
    assert len(merge([find(box, level=1)], [1.0, 0.5])) == 1
