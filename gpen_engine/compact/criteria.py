"""What gpen-compact has to reach: scores -> criteria, each passed, missed or not measured.

In: the scores of all faces, and what the checkpoint costs. Out: a list of `Criterion`, each with
its value and its bound.

Likeness (identity distance, faces moved away) is judged twice by the same bounds: under the
headline damage, the 4x mix, and pooled over all damages. What is asked for can be read either way,
and a figure that holds under the mix alone must not hide one that is missed under the others.
Gradient energy is judged under the headline damage alone: heavier damage takes away what would
tell how sharp the face was, and a network reaches the energy there only by inventing edges.
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from gpen_engine.compact.scores import HEADLINE, FaceScore, Row, average, pool

_WORST = 95
"""Percentile that stands for the worst faces where one flaw among many faces would be lost."""


class Verdict(StrEnum):
    """Whether a criterion holds."""

    PASSED = "passed"
    MISSED = "MISSED"
    NOT_MEASURED = "not measured"


class Sense(StrEnum):
    """On which side of its bound a value has to be."""

    AT_LEAST = "at least"
    AT_MOST = "at most"
    OVER = "over"


_HOLDS = {Sense.AT_LEAST: operator.ge, Sense.AT_MOST: operator.le, Sense.OVER: operator.gt}


@dataclass(frozen=True, slots=True)
class Criterion:
    """One figure and its bound; `value` is None where it wasn't measured."""

    name: str
    value: float | None
    sense: Sense
    bound: float
    unit: str = ""

    @property
    def verdict(self) -> Verdict:
        """Tell whether it holds; a value that isn't a number doesn't."""
        if self.value is None:
            return Verdict.NOT_MEASURED
        return Verdict.PASSED if _HOLDS[self.sense](self.value, self.bound) else Verdict.MISSED


@dataclass(frozen=True, slots=True)
class Cost:
    """What a checkpoint takes.

    Attributes:
        file_bytes: size of the file.
        face_s: time of a face on two threads.
        load: of the machine before, by other programs; near its cores' number, `face_s` is theirs.
    """

    file_bytes: int
    face_s: float
    load: float


def judge(scores: Sequence[FaceScore], clean: Sequence[float], cost: Cost) -> list[Criterion]:
    """Hold the scores against what is asked for.

    Args:
        scores: all faces under all damages.
        clean: the PSNR in dB of each undamaged face after the network.
        cost: what the checkpoint takes.
    """
    rows = [average(under) for under in by_damage(scores).values()]
    headline = next(row for row in rows if row.damage == HEADLINE)
    return [
        *_fidelity(headline),
        *(criterion for row in rows for criterion in _beats_baselines(row)),
        *_identity(headline),
        *_identity(pool(scores)),
        *_looks(headline, scores),
        Criterion("clean face back, worst face", min(clean), Sense.AT_LEAST, 30.0, "dB"),
        Criterion("file", cost.file_bytes / 1e6, Sense.AT_MOST, 12.0, "MB"),
        Criterion("time of a face, two threads", cost.face_s, Sense.AT_MOST, 0.6, "s"),
    ]


def by_damage(scores: Sequence[FaceScore]) -> dict[str, list[FaceScore]]:
    """Group scores by damage, in the order in which the damages come."""
    grouped: dict[str, list[FaceScore]] = {}
    for score in scores:
        grouped.setdefault(score.damage, []).append(score)
    return grouped


def _fidelity(row: Row) -> list[Criterion]:
    psnr = row.restored.psnr - row.bicubic.psnr
    ssim = row.restored.ssim - row.bicubic.ssim
    return [
        Criterion(f"{row.damage}: PSNR over bicubic", psnr, Sense.AT_LEAST, 1.0, "dB"),
        Criterion(f"{row.damage}: SSIM over bicubic", ssim, Sense.AT_LEAST, 0.05),
    ]


def _beats_baselines(row: Row) -> list[Criterion]:
    baselines = (row.bicubic, row.classical)
    psnr = row.restored.psnr - max(baseline.psnr for baseline in baselines)
    ssim = row.restored.ssim - max(baseline.ssim for baseline in baselines)
    return [
        Criterion(f"{row.damage}: PSNR over the better baseline", psnr, Sense.OVER, 0.0, "dB"),
        Criterion(f"{row.damage}: SSIM over the better baseline", ssim, Sense.OVER, 0.0),
    ]


def _identity(row: Row) -> list[Criterion]:
    nearer = f"{row.damage}: identity distance to bicubic's"
    return [
        Criterion(nearer, row.identity_ratio, Sense.AT_MOST, 0.85),
        Criterion(f"{row.damage}: faces moved away", row.farther, Sense.AT_MOST, 0.05),
    ]


def _looks(headline: Row, scores: Sequence[FaceScore]) -> list[Criterion]:
    sharpness = headline.restored.sharpness
    boards = [score.restored.checkerboard for score in scores]
    casts = [score.restored.cast for score in scores]
    return [
        Criterion(
            f"{headline.damage}: gradient energy to the truth's", sharpness, Sense.AT_LEAST, 0.6
        ),
        Criterion("checkerboard, worst twentieth", _worst(boards), Sense.AT_MOST, 1.5),
        Criterion("colour cast, worst twentieth", _worst(casts), Sense.AT_MOST, 2.3),
    ]


def _worst(values: Sequence[float]) -> float:
    return float(np.percentile(values, _WORST))
