"""Stand-ins for the network and the detector: small, quick, and predictable."""

import threading

import numpy as np
import torch

from gpen_engine.blend import blend
from gpen_engine.faces import Face, ModelIdentity, Template
from gpen_engine.finder import Finder
from gpen_engine.forward import FaceForward
from gpen_engine.memory import Budget, MemoryPlanner
from gpen_engine.precision import Precision
from gpen_engine.restoration import Restoration
from gpen_engine.restorer import Restorer

CPU = torch.device("cpu")

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

    identity = ModelIdentity("fake", "0" * 64)

    def __init__(self, *faces: Face, device: torch.device = CPU, room: bool = True) -> None:
        self.faces = list(faces)
        self.device = device
        self.room = room
        self.rotations: list[bool] = []

    def detect(
        self, image, *, min_score: float = 0.5, rotations: bool = False, colour=None
    ) -> list[Face]:
        del image, colour
        if not self.room:
            raise torch.OutOfMemoryError("no room for a view")
        self.rotations.append(rotations)
        found = [face for face in self.faces if face.score >= min_score]
        return sorted(found, key=lambda face: -face.score)

    def to(self, device: torch.device) -> "FakeDetector":
        return FakeDetector(*self.faces, device=device)


class Negative:
    """A face model that returns the negative, and remembers the batches it was given."""

    name = "fake"
    sha256 = "0" * 64
    template = Template.GPEN
    weights_bytes = 1 << 20

    def __init__(self, size: int = 32, *, input_size: int | None = None) -> None:
        self.size = size
        self.input_size = input_size or size
        self.batches: list[int] = []
        self.precisions: list[Precision] = []

    def on(self, device: torch.device, precision: Precision) -> "NetworkOf":
        del device
        return NetworkOf(self, precision)

    def activation_bytes(self, batch: int) -> int:
        return batch << 20

    def answer(self, x: torch.Tensor, precision: Precision) -> torch.Tensor:
        self.batches.append(len(x))
        self.precisions.append(precision)
        if self.size != self.input_size:
            return -torch.nn.functional.interpolate(x, size=(self.size, self.size))
        return -x


class NetworkOf:
    """A fake model in one precision."""

    def __init__(self, model: Negative, precision: Precision) -> None:
        self.model = model
        self.precision = precision
        self.size = model.size
        self.input_size = model.input_size
        self.weights_bytes = model.weights_bytes
        self.activation_bytes = model.activation_bytes

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.model.answer(x, self.precision)


class OutOfMemoryAbove(Negative):
    """Has room for so many faces at once."""

    def __init__(self, room: int, size: int = 32) -> None:
        super().__init__(size)
        self.room = room

    def answer(self, x: torch.Tensor, precision: Precision) -> torch.Tensor:
        if len(x) > self.room:
            self.batches.append(-len(x))
            raise torch.OutOfMemoryError(f"tried {len(x)}")
        return super().answer(x, precision)


class Overflowing(Negative):
    """Gives something unusable for bright faces, below float32 only or always."""

    def __init__(self, *, always: bool = False, value: float = torch.nan, size: int = 32) -> None:
        super().__init__(size)
        self.always = always
        self.value = value

    def answer(self, x: torch.Tensor, precision: Precision) -> torch.Tensor:
        output = super().answer(x, precision).clone()
        if self.always or precision is not Precision.FP32:
            output[x.mean(dim=(1, 2, 3)) > 0] = self.value
        return output


class WideGamut:
    """The colours of ProPhoto RGB, whose primaries lie far outside sRGB, with a gamma of 1.8.

    As in real profiles, grays are gray up to the rounding of the matrix.
    """

    to_linear_srgb = np.array(
        [[2.0343, -0.7276, -0.3067], [-0.2288, 1.2317, -0.0029], [-0.0086, -0.1532, 1.1620]]
    )

    def to_srgb(self, pixels):
        top = 255.0 if pixels.dtype == np.uint8 else 1.0
        light = np.clip((pixels / top) ** 1.8 @ self.to_linear_srgb.T, 0.0, 1.0)
        bright = 1.055 * light ** (1 / 2.4) - 0.055
        shares = np.where(light <= 0.0031308, 12.92 * light, bright)
        return (np.rint(shares * top) if top > 1 else shares).astype(pixels.dtype)

    def from_srgb(self, pixels):
        values = pixels.astype(np.float64)
        light = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
        own = np.clip(light @ np.linalg.inv(self.to_linear_srgb).T, 0.0, 1.0)
        return (own ** (1 / 1.8)).astype(np.float32)


def planner_with(room_bytes: int = 16 << 30) -> MemoryPlanner:
    """Make a planner for a CPU on which so much is free."""
    return MemoryPlanner(
        CPU,
        measure=lambda _device, limit_bytes: Budget(limit_bytes or room_bytes, 64 << 30, "fake"),
    )


def make_restorer(
    model: Negative, *faces: Face, precision: str = "fp32", batch: int = 8, **parts
) -> Restorer:
    """Wire fakes into a restorer on the CPU that takes so many faces at a time."""
    turn = threading.Lock()
    planner = planner_with()
    forward = FaceForward(model, planner, wish=precision, turn=turn, cache=parts.pop("cache", None))
    planner._batch = batch
    return Restorer(
        forward=forward,
        finder=Finder(parts.pop("detector", None) or FakeDetector(*faces), turn=turn),
        device=CPU,
        turn=turn,
        **parts,
    )


def restoration(image, patches):
    """A picture whose faces changed as the patches say."""
    return Restoration(image, (), {}, pieces=blend(image, patches))


def paste(image, patches):
    """The whole of it."""
    return restoration(image, patches).image
