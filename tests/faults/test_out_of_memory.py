"""Memory runs out at every single step: the picture is the same, or the failure is clear.

The real network and the real detector run on the CPU; one of their calls to torch's convolutions
raises what a full card raises.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import skimage.data
import torch

from gpen_engine import Finish, MaskKind, OutOfMemory, Restoration, Treatment
from gpen_engine.background import Background
from gpen_engine.checkpoint import load_generator
from gpen_engine.detect import Detector, load_detector
from gpen_engine.faces import ModelIdentity
from gpen_engine.finder import Finder
from gpen_engine.forward import FaceForward
from gpen_engine.memory import MemoryPlanner
from gpen_engine.networks import GpenModel
from gpen_engine.parse import PARSENET_DESIGN, FaceParser
from gpen_engine.precision import Precision
from gpen_engine.restorer import Restorer
from gpen_engine.weights import COMPACT_FILE

CPU = torch.device("cpu")


class Fault:
    """Raises at the n-th convolution, and at every later one as long as it is said to last."""

    def __init__(self, at: int, *, lasting: int = 1) -> None:
        self.calls = 0
        self.raised = 0
        self._at = at
        self._until = at + lasting

    def __call__(self, original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def faulty(*arguments, **options):
            number = self.calls
            self.calls += 1
            if self._at <= number < self._until:
                self.raised += 1
                raise torch.OutOfMemoryError("CUDA out of memory (injected)")
            return original(*arguments, **options)

        return faulty


@contextmanager
def injected(fault: Fault) -> Iterator[Fault]:
    """Let the fault happen inside torch's convolutions."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("conv2d", "conv_transpose2d"):
            original = getattr(torch.nn.functional, name)
            patch.setattr(torch.nn.functional, name, fault(original))
        yield fault


class OnCard:
    """The real detector, which believes that it runs on a card."""

    device = torch.device("cuda", 0)

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self.identity = detector.identity

    def detect(self, image, **options):
        return self._detector.detect(image, **options)

    def to(self, device: torch.device) -> Detector:
        assert device.type == "cpu"
        return self._detector


class Softening:
    """A background network: one convolution that blurs."""

    scale = 1
    multiple = 1
    precisions = frozenset({Precision.FP32})

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        kernel = torch.full((3, 1, 3, 3), 1 / 9)
        return torch.nn.functional.conv2d(x, kernel, padding=1, groups=3)


@pytest.fixture(scope="module")
def detector() -> Detector:
    torch.set_num_threads(1)
    return load_detector(CPU)


@pytest.fixture
def restore(detector, photograph):
    """Restore the photograph with a new engine, which takes two faces at a time."""

    def run(treatment: Treatment, *, parser: FaceParser | None = None) -> Restoration:
        turn = threading.Lock()
        planner = MemoryPlanner(CPU)
        model = GpenModel(load_generator(COMPACT_FILE), name="compact")
        forward = FaceForward(model, planner, wish="fp32", turn=turn)
        background = Background(
            Softening(), ModelIdentity("softening", "0" * 64), device=CPU, tile_px=384
        )
        engine = Restorer(
            forward=forward,
            finder=Finder(OnCard(detector), turn=turn),
            device=CPU,
            turn=turn,
            background=background,
            parser=parser,
        )
        return engine.restore(photograph, treatment)

    return run


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    """Two people, 440 pixels wide."""
    head = skimage.data.astronaut()[:220, 110:330]
    return np.hstack([head, head[:, ::-1]])


TREATMENTS = {"faces": Treatment(), "background too": Treatment(background_scale=1)}


@pytest.mark.parametrize("treatment", TREATMENTS.values(), ids=list(TREATMENTS))
def test_memory_that_runs_out_once_at_any_step_changes_no_pixel(restore, treatment):
    with injected(Fault(at=-1)) as counted:
        expected = restore(treatment)
    same = [face.restored for face in expected.faces]
    assert sum(same) == 2

    # The detector repeats itself view by view: some of its steps stand for all.
    steps = {*range(0, counted.calls, 13), *range(max(0, counted.calls - 45), counted.calls)}
    for step in sorted(steps):
        with injected(Fault(at=step)) as fault:
            result = restore(treatment)
        assert fault.raised == 1
        difference = np.abs(result.image.astype(int) - expected.image)
        assert difference.max() <= 1, f"step {step}"
        assert [face.restored for face in result.faces] == [
            face.restored for face in expected.faces
        ]
        assert any("out of memory" in note for note in result.notes), f"step {step} isn't told"


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8, 0.97])
def test_memory_that_stays_away_is_a_clear_failure(restore, share):
    with injected(Fault(at=-1)) as counted:
        restore(Treatment())

    with injected(Fault(at=int(share * counted.calls), lasting=10**9)), pytest.raises(OutOfMemory):
        restore(Treatment())


class NoRoom(torch.nn.Module):
    """A parser's network for which there is never room."""

    def forward(self, x):
        raise torch.OutOfMemoryError("CUDA out of memory (injected)")


def test_a_parser_without_room_is_a_clear_failure(restore):
    parser = FaceParser(NoRoom(), PARSENET_DESIGN, ModelIdentity("none", "0" * 64), device=CPU)

    with pytest.raises(OutOfMemory, match="the face parser"):
        restore(Treatment(finish=Finish(mask=MaskKind.PARSED)), parser=parser)
