"""Which of the faces found are restored, and why the others are not.

In: faces in pixels of the upright image, a policy, the picture's shape. Out: of each face the
reason why it is left alone, or None. Nothing here looks at pixels. The numbers were tuned on the
faces of old photographs; docs/detection.md shows where they cut.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpen_engine.align import invert, scale_of, similarity, template
from gpen_engine.boxes import share_inside, side_px
from gpen_engine.faces import Face, FacePolicy, LargeFaces, Mask, Point, Reason, Template

_NESTED_SHARE = 0.6
_NESTED_SIDE = 0.6
"""A box that lies by such a share in one whose side it has at most so much of is a part of it."""
_FACE_RADIUS = 1.15
"""From the middle of the landmarks, in distances of the eyes: brows, cheeks and lips, not the hair.
The detector's box won't do: where the picture ends, it ends."""
_CUT_SHARE = 0.1
"""A face of which so much lies outside the picture is cut off."""
_PROFILE_MISFIT = 0.25
"""Turned by about 60 degrees or more: the further eye is hidden, or nearly."""
_SQUEEZED_SHARE = 0.07
"""So much of its box the landmarks of a face span at least: 0.087 to 0.2 on old photographs, those
half in profile included. Of faces that lie on their side, unnoticed, it is 0.03 to 0.2."""
_PROTECTED_SHARE = 0.95
_SIZE_PX = 168
"""Any size of an aligned face does for measuring: results are shares."""
_STEPS = np.linspace(-1.0, 1.0, 31)
_SQUARE = np.stack(np.meshgrid(_STEPS, _STEPS), axis=-1).reshape(-1, 2)
_DISK = _SQUARE[np.hypot(_SQUARE[:, 0], _SQUARE[:, 1]) <= 1.0]


@dataclass(frozen=True, slots=True)
class _Case:
    """A face, and everything its treatment depends on."""

    face: Face
    found: Sequence[Face]
    policy: FacePolicy
    shape: tuple[int, ...]
    network_px: int
    kind: Template
    protected: Mask | None


def refusals(
    found: Sequence[Face],
    policy: FacePolicy,
    *,
    shape: tuple[int, ...],
    network_px: int,
    kind: Template = Template.GPEN,
    protected: Mask | None = None,
) -> dict[Face, Reason | None]:
    """Say of each face why it is left alone; None when it isn't.

    Where several reasons hold, it is the first of: what makes the find doubtful, what the policy
    says of this face, what the face is like, the limit on their number.

    Args:
        found: the faces of one picture, those included whose score is too low for the policy.
        policy: which faces are restored.
        shape: of the picture.
        network_px: side of the network's picture.
        kind: where that has the landmarks.
        protected: `(H, W) bool`, areas that are never touched.

    Returns:
        The faces, the most certain first.
    """
    reasons: dict[Face, Reason | None] = {}
    room = policy.max_faces
    for face in sorted(found, key=lambda face: -face.score):
        case = _Case(face, found, policy, shape, network_px, kind, protected)
        reason = next((reason for reason, holds in _RULES if holds(case)), None)
        if reason is None and room <= 0:
            reason = Reason.OVER_LIMIT
        room -= reason is None
        reasons[face] = reason
    return reasons


def misfit(landmarks: Sequence[Point]) -> float:
    """Return how badly five points fit the template, however the face is rolled.

    It is the mean distance (root of the mean square) that the best similarity leaves between the
    landmarks and the template's, in shares of the template's distance between the eyes: 0.05 to
    0.15 for faces seen from the front, 0.2 for one turned by half, 0.4 for a full profile.
    """
    matrix, aim = similarity(landmarks, _SIZE_PX), template(_SIZE_PX)
    aligned = np.asarray(landmarks, np.float64) @ matrix[:, :2].T + matrix[:, 2]
    distance = math.sqrt(float(((aligned - aim) ** 2).sum(axis=1).mean()))
    return distance / math.dist(aim[0], aim[1])


def _has_low_score(case: _Case) -> bool:
    return case.face.score < case.policy.min_score


def _is_squeezed(case: _Case) -> bool:
    """Tell whether the landmarks span too little of the box: they aren't where the face has them.

    What they span is their mean width times the distance from the eyes to the mouth. The network
    draws the box around the face however it lies, but the landmarks as for an upright one. Those
    of a profile span little where they are right.
    """
    if misfit(case.face.landmarks) > _PROFILE_MISFIT:
        return False
    left, right, _, *mouth = np.array(case.face.landmarks)
    across = (math.dist(left, right) + math.dist(mouth[0], mouth[1])) / 2
    down = math.dist((left + right) / 2, (mouth[0] + mouth[1]) / 2)
    x0, y0, x1, y1 = case.face.box
    return across * down < _SQUEEZED_SHARE * (x1 - x0) * (y1 - y0)


def _is_nested(case: _Case) -> bool:
    """Tell whether it lies in a clearly larger face, as an eye does that was taken for one."""
    return any(
        other.score >= case.policy.min_score
        and side_px(case.face.box) <= _NESTED_SIDE * side_px(other.box)
        and share_inside(case.face.box, other.box) >= _NESTED_SHARE
        for other in case.found
    )


def _is_switched_off(case: _Case) -> bool:
    x0, y0, x1, y1 = case.face.box
    return any(x0 <= x <= x1 and y0 <= y <= y1 for x, y in case.policy.leave)


def _is_protected(case: _Case) -> bool:
    """Tell whether nearly all of it that the picture shows is protected."""
    if case.protected is None:
        return False
    x0, y0, x1, y1 = (round(edge) for edge in case.face.box)
    part = case.protected[max(y0, 0) : max(y1 + 1, 0), max(x0, 0) : max(x1 + 1, 0)]
    return part.size > 0 and float(part.mean()) >= _PROTECTED_SHARE


def _is_too_small(case: _Case) -> bool:
    return case.face.eye_distance_px < case.policy.min_eye_distance_px


def _is_cut_off(case: _Case) -> bool:
    """Tell whether the picture's edge cuts it.

    Without both eyes no policy can have it restored: the network would have to make them up.
    """
    if not _are_in(np.array(case.face.landmarks[:2]), case.shape).all():
        return True
    return not case.policy.cut_off and _share_outside(case.face, case.shape) > _CUT_SHARE


def _is_profile(case: _Case) -> bool:
    return not case.policy.profiles and misfit(case.face.landmarks) > _PROFILE_MISFIT


def _is_too_large(case: _Case) -> bool:
    if case.policy.large is not LargeFaces.LEAVE:
        return False
    return scale_of(similarity(case.face.landmarks, case.network_px, case.kind)) < 1.0


_RULES: tuple[tuple[Reason, Callable[[_Case], bool]], ...] = (
    (Reason.LOW_SCORE, _has_low_score),
    (Reason.NESTED, _is_nested),
    (Reason.SWITCHED_OFF, _is_switched_off),
    (Reason.PROTECTED, _is_protected),
    (Reason.TOO_SMALL, _is_too_small),
    (Reason.CUT_OFF, _is_cut_off),
    (Reason.PROFILE, _is_profile),
    (Reason.LOW_SCORE, _is_squeezed),
    (Reason.TOO_LARGE, _is_too_large),
)


def _share_outside(face: Face, shape: tuple[int, ...]) -> float:
    """Return how much of a face lies outside the picture, 0 to 1."""
    aim = template(_SIZE_PX)
    radius = _FACE_RADIUS * math.dist(aim[0], aim[1])
    spots = aim.mean(axis=0) + radius * _DISK
    back = invert(similarity(face.landmarks, _SIZE_PX))
    return 1.0 - float(_are_in(spots @ back[:, :2].T + back[:, 2], shape).mean())


def _are_in(points: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Tell of each of `(N, 2)` points whether the picture has it."""
    height, width = shape[:2]
    inside = (points >= -0.5) & (points <= (width - 0.5, height - 0.5))
    return np.asarray(inside.all(axis=1))
