"""Stand-ins for the network and the detector: small, quick, and predictable."""

from pathlib import Path

import torch
from torch import nn

from gpen_engine.checkpoint import LoadedGenerator
from gpen_engine.detect import DetectorIdentity
from gpen_engine.faces import Face
from gpen_engine.model import GpenConfig
from gpen_engine.precision import Precision
from gpen_engine.restorer import Restorer

# Where the detector finds the face of scikit-image's astronaut.
ASTRONAUT = Face(
    (177.3, 55.5, 272.0, 179.8),
    ((203.96, 100.15), (247.93, 103.82), (224.55, 128.99), (199.23, 138.32), (245.79, 141.34)),
    0.9997,
)


def face_at(
    x: float, y: float, *, eye_distance_px: float = 40.0, score: float = 0.99, turn: float = 0.0
) -> Face:
    """Make a face whose nose is at (x, y)."""
    unit = eye_distance_px
    marks = [(-0.5, -0.57), (0.5, -0.57), (0.0, 0.0), (-0.42, 0.59), (0.42, 0.59)]
    cos, sin = torch.cos(torch.tensor(turn)).item(), torch.sin(torch.tensor(turn)).item()
    points = [(x + unit * (cos * u - sin * v), y + unit * (sin * u + cos * v)) for u, v in marks]
    box = (x - unit, y - 1.2 * unit, x + unit, y + 1.2 * unit)
    return Face(box, (points[0], points[1], points[2], points[3], points[4]), score)


class FakeDetector:
    """Finds the faces it was told of, those above the score it is asked for."""

    identity = DetectorIdentity("fake", "0" * 64)

    def __init__(self, *faces: Face) -> None:
        self.faces = list(faces)

    def detect(self, image, *, min_score: float = 0.5) -> list[Face]:
        del image
        found = [face for face in self.faces if face.score >= min_score]
        return sorted(found, key=lambda face: -face.score)


class Negative(nn.Module):
    """Returns the negative, and remembers the batches it was given."""

    def __init__(self, size: int = 32) -> None:
        super().__init__()
        self.config = GpenConfig(size)
        self.batches: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(x))
        return -x


class OutOfMemoryAbove(Negative):
    """Has room for so many faces at once."""

    def __init__(self, room: int, size: int = 32) -> None:
        super().__init__(size)
        self.room = room

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > self.room:
            self.batches.append(-len(x))
            raise torch.OutOfMemoryError(f"tried {len(x)}")
        return super().forward(x)


class Overflowing(Negative):
    """Returns NaN for bright faces, under autocast only or always."""

    def __init__(self, *, always: bool = False, size: int = 32) -> None:
        super().__init__(size)
        self.always = always
        self.fast: list[bool] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.fast.append(torch.is_autocast_enabled("cpu"))
        output = super().forward(x).clone()
        if self.always or self.fast[-1]:
            output[x.mean(dim=(1, 2, 3)) > 0] = torch.nan
        return output


def make_restorer(
    network: nn.Module, *faces: Face, precision: Precision = Precision.FP32
) -> Restorer:
    """Wire fakes into a restorer on the CPU."""
    return Restorer(
        generator=LoadedGenerator(network, "0" * 64, Path("fake.pth")),
        detector=FakeDetector(*faces),
        device=torch.device("cpu"),
        precision=precision,
        name="fake",
    )
