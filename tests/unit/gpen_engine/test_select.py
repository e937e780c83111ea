"""Which faces are restored: each reason to leave one alone, and none where there is none."""

from dataclasses import replace

import numpy as np
import pytest

from gpen_engine.faces import Face, FacePolicy, LargeFaces, Reason, Template
from gpen_engine.select import misfit, refusals
from tests.unit.gpen_engine.fakes import ASTRONAUT, face_at

SHAPE = (1000, 1000, 3)
POLICY = FacePolicy()


def reason(face, policy=POLICY, *, others=(), shape=SHAPE, network_px=512, protected=None):
    found = [face, *others]
    return refusals(found, policy, shape=shape, network_px=network_px, protected=protected)[face]


def profile_of(face, *, turn):
    """Return a face as it looks when turned aside: 0 from the front, 1 in full profile."""
    x, unit = face.landmarks[2][0], face.eye_distance_px
    squeezed = tuple(
        (x + (mark[0] - x) * (1 - turn) - (0.45 * unit * turn if i != 2 else 0.0), mark[1])
        for i, mark in enumerate(face.landmarks)
    )
    return replace(face, landmarks=squeezed)


def rolled(face, degrees):
    (x, y), turn = face.landmarks[2], np.exp(1j * np.deg2rad(degrees))
    spots = [turn * complex(u - x, v - y) for u, v in face.landmarks]
    return replace(face, landmarks=tuple((x + spot.real, y + spot.imag) for spot in spots))


def test_an_ordinary_face_is_restored():
    assert reason(face_at(500, 500)) is None
    assert reason(ASTRONAUT, shape=(512, 512, 3)) is None


def test_faces_come_the_most_certain_first_whatever_their_order():
    faces = [face_at(200 * i + 100, 500, score=score) for i, score in enumerate((0.91, 0.99, 0.95))]

    found = refusals(faces, POLICY, shape=SHAPE, network_px=512)

    assert [face.score for face in found] == [0.99, 0.95, 0.91]


def test_no_faces_give_no_reasons():
    assert refusals([], POLICY, shape=SHAPE, network_px=512) == {}


def test_a_doubtful_find_is_left_alone():
    assert reason(face_at(500, 500, score=0.89)) is Reason.LOW_SCORE
    assert reason(face_at(500, 500, score=0.89), FacePolicy(min_score=0.8)) is None


def test_an_eye_taken_for_a_face_is_left_alone_and_its_face_is_not():
    large = face_at(500, 500, eye_distance_px=200)
    eye = face_at(400, 400, eye_distance_px=30, score=0.999)

    assert reason(eye, others=[large]) is Reason.NESTED
    assert reason(large, others=[eye]) is None


def test_a_face_beside_or_before_another_is_not_taken_for_a_part_of_it():
    large = face_at(500, 500, eye_distance_px=100)
    beside = face_at(620, 560, eye_distance_px=40)
    before = face_at(520, 520, eye_distance_px=80)

    assert reason(beside, others=[large]) is None
    assert reason(before, others=[large]) is None


def test_a_doubtful_find_does_not_swallow_the_faces_in_it():
    doubtful = face_at(500, 500, eye_distance_px=200, score=0.8)

    assert reason(face_at(500, 500, eye_distance_px=30), others=[doubtful]) is None


def test_a_face_with_too_little_between_the_eyes_is_left_alone():
    assert reason(face_at(500, 500, eye_distance_px=5.9)) is Reason.TOO_SMALL
    assert reason(face_at(500, 500, eye_distance_px=6.1)) is None


@pytest.mark.parametrize("edge", ["left", "right", "upper", "lower"])
def test_a_face_that_the_edge_cuts_is_left_alone_where_the_policy_says_so(edge):
    place = {"left": (25, 500), "right": (975, 500), "upper": (500, 25), "lower": (500, 975)}[edge]
    whole = {"left": (60, 500), "right": (940, 500), "upper": (500, 60), "lower": (500, 940)}[edge]
    careful = FacePolicy(cut_off=False)

    assert reason(face_at(*place), careful) is Reason.CUT_OFF
    assert reason(face_at(*place), POLICY) is None
    assert reason(face_at(*whole), careful) is None


def test_a_face_without_both_its_eyes_in_the_picture_is_never_restored():
    assert reason(face_at(15, 500), FacePolicy(cut_off=True)) is Reason.CUT_OFF


@pytest.mark.parametrize("roll", [0, 30, 90, 180, -100])
def test_a_profile_is_left_alone_and_a_three_quarter_face_is_not_however_they_are_rolled(roll):
    profile = rolled(profile_of(face_at(500, 500), turn=0.8), roll)
    three_quarter = rolled(profile_of(face_at(500, 500), turn=0.35), roll)

    assert reason(profile) is Reason.PROFILE
    assert reason(three_quarter) is None
    assert reason(profile, FacePolicy(profiles=True)) is None


def test_landmarks_that_are_no_face_fit_the_template_badly():
    assert misfit(ASTRONAUT.landmarks) < 0.2
    assert misfit([ASTRONAUT.landmarks[i] for i in (2, 4, 0, 3, 1)]) > 0.4


@pytest.mark.parametrize("policy", [POLICY, FacePolicy(profiles=True)])
def test_landmarks_squeezed_together_in_a_face_are_left_alone_however_certain_it_is(policy):
    sound, box = face_at(500, 500), (400.0, 380.0, 600.0, 620.0)

    assert reason(replace(sound, box=box), policy) is Reason.LOW_SCORE
    assert reason(sound, policy) is None


def test_a_face_larger_than_the_networks_picture_is_left_alone_where_the_policy_says_so():
    large = face_at(500, 500, eye_distance_px=150)

    assert reason(large, FacePolicy(large=LargeFaces.LEAVE)) is Reason.TOO_LARGE
    assert reason(large, FacePolicy(large=LargeFaces.LEAVE), network_px=1024) is None
    assert reason(large, FacePolicy(large=LargeFaces.BLEND)) is None


def test_a_face_that_the_policy_names_is_left_alone_and_its_neighbour_is_not():
    policy = FacePolicy(leave=((310.0, 480.0),))

    assert reason(face_at(300, 500), policy) is Reason.SWITCHED_OFF
    assert reason(face_at(500, 500), policy) is None


def test_a_face_in_a_protected_area_is_left_alone_and_one_that_it_only_touches_is_not():
    protected = np.zeros(SHAPE[:2], np.bool_)
    protected[400:600, 400:600] = True

    assert reason(face_at(500, 500), protected=protected) is Reason.PROTECTED
    assert reason(face_at(580, 500), protected=protected) is None
    assert reason(face_at(300, 300), protected=protected) is None


def test_a_find_whose_box_lies_outside_the_picture_is_not_taken_for_a_protected_one():
    outside = replace(face_at(500, 500), box=(450.0, -80.0, 550.0, -5.0))

    assert reason(outside, protected=np.ones(SHAPE[:2], np.bool_)) is None


def test_only_so_many_are_restored_and_those_left_for_other_reasons_do_not_count():
    scores = (0.99, 0.98, 0.97, 0.96)
    faces = [face_at(150 * i + 100, 500, score=score) for i, score in enumerate(scores)]
    policy = FacePolicy(max_faces=2, leave=((100.0, 500.0),))

    found = refusals(faces, policy, shape=SHAPE, network_px=512)

    assert list(found.values()) == [Reason.SWITCHED_OFF, None, None, Reason.OVER_LIMIT]


def test_what_the_policy_says_of_a_face_comes_before_what_the_face_is_like():
    policy = FacePolicy(leave=((500.0, 500.0),), large=LargeFaces.LEAVE)

    assert reason(face_at(500, 500, eye_distance_px=300), policy) is Reason.SWITCHED_OFF


def test_landmarks_in_one_point_are_a_reason_not_a_crash():
    point = Face((400.0, 400.0, 600.0, 600.0), ((500.0, 500.0),) * 5, 0.99)

    assert reason(point) is Reason.TOO_SMALL
    assert reason(point, FacePolicy(min_eye_distance_px=0.0)) is Reason.PROFILE


def test_a_face_is_measured_by_the_networks_own_template():
    # Eyes 115 px apart: GPEN's picture of 512 px shows 107 between them, FFHQ's 126.
    face = face_at(500.0, 500.0, eye_distance_px=115.0)
    leave = FacePolicy(large=LargeFaces.LEAVE)

    by_kind = {
        kind: refusals([face], leave, shape=(1000, 1000, 3), network_px=512, kind=kind)[face]
        for kind in Template
    }

    assert by_kind == {Template.GPEN: Reason.TOO_LARGE, Template.FFHQ: None}
