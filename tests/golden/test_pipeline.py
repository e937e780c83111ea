"""The reference-compatible mode against pictures that the published pipeline made.

The pipeline's own alignment, masks and paste ran with stand-ins for its four networks: the face
network answers with the negative, the parser with an ellipse, the background network doubles every
pixel, and the detector says where the faces are. They are repeated here.
"""

import cv2
import numpy as np
import pytest
import skimage.data
import torch

from gpen_engine.align import invert, similarity
from gpen_engine.faces import Face, FacePolicy
from gpen_engine.reference import restore_compatibly, working_picture
from tests.golden.recipe import HERE, SHARED

GOLDEN = np.load(HERE / "pipeline.npz")
COMMITTED = ("pipeline_in512", "pipeline_in512_alpha07", "pipeline_in256")
WITH_SHARED = pytest.mark.skipif(
    not SHARED.is_dir(), reason="../shared/gpen/goldens isn't beside the project"
)


class Negative:
    """Answers with the negative, and keeps the faces it was shown, as 8-bit pictures."""

    def __init__(self) -> None:
        self.crops: list[np.ndarray] = []

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        levels = ((x * 0.5 + 0.5) * 255.0).round()
        self.crops.append(levels[0].permute(1, 2, 0).numpy().astype(np.uint8))
        # Three quarters of a level more: cutting off gives the negative, rounding doesn't.
        return (255.0 - levels + 0.75) / 255.0 * 2.0 - 1.0


def ellipse(x: torch.Tensor) -> np.ndarray:
    assert x.shape == (1, 3, 512, 512)
    down, across = np.mgrid[0:512, 0:512]
    inside = ((across - 256) / 215) ** 2 + ((down - 270) / 240) ** 2 <= 1
    return (inside & (down >= 90))[None]


def found(scale: float) -> list[Face]:
    """Return the faces that the stand-in for the detector finds, and the policy lets through."""
    faces = []
    for box, marks in zip(GOLDEN["dets"], GOLDEN["landmarks_packed"], strict=True):
        points = (marks.reshape(2, 5).T * scale).astype(np.float64)
        x0, y0, x1, y1 = (box[:4] * scale).tolist()
        landmarks = tuple((float(x), float(y)) for x, y in points)
        faces.append(Face((x0, y0, x1, y1), landmarks, float(box[4])))
    return [face for face in faces if face.score >= FacePolicy().min_score]


def run(name: str, network=None) -> np.ndarray:
    """Make the picture of that name anew."""
    picture = skimage.data.astronaut()
    background = None
    if name.endswith("sr2"):
        background = picture.repeat(2, axis=0).repeat(2, axis=1)
    width = working_picture(picture, background).shape[1]
    result, _ = restore_compatibly(
        picture,
        found(width / 512),
        network or Negative(),
        size=256 if name.endswith("in256") else 512,
        parser=ellipse,
        strength=0.7 if name.endswith("alpha07") else 1.0,
        background=background,
    )
    return result


def difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    assert one.shape == other.shape
    return np.abs(one.astype(int) - other.astype(int))


def check(result: np.ndarray, golden: np.ndarray) -> None:
    """Hold a picture to its golden: the fit may differ in the last bits of float32, no more."""
    levels = difference(result, golden)
    assert levels.max() <= 1
    assert (levels > 0).mean() < 1e-3


def read(path) -> np.ndarray:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    assert picture is not None, path
    return picture


@pytest.mark.parametrize("name", COMMITTED)
def test_the_compatible_mode_makes_the_published_picture(name):
    check(run(name), read(HERE / f"{name}.png"))


def test_the_goldens_show_restored_faces():
    # Three negatives in a portrait: a pipeline that did nothing would be far off.
    levels = difference(skimage.data.astronaut(), read(HERE / "pipeline_in512.png"))

    assert (levels > 50).mean() > 0.1


@WITH_SHARED
def test_the_compatible_mode_makes_the_published_picture_with_an_enlarged_background():
    check(run("pipeline_in512_sr2"), read(SHARED / "pipeline_in512_sr2.png"))


@WITH_SHARED
def test_the_network_sees_the_published_crops():
    network = Negative()

    run("pipeline_in512", network)

    assert len(network.crops) == 3
    for index, crop in enumerate(network.crops):
        check(crop, read(SHARED / f"pipeline_crop512_{index}.png"))


@pytest.mark.parametrize("size", [256, 512])
@pytest.mark.parametrize("index", range(3))
def test_faces_are_aligned_as_published(index, size):
    matrix = similarity(found(1.0)[index].landmarks, size)

    # In pixels: a thousandth of one moves no level.
    assert np.abs(matrix - GOLDEN[f"tfm_lm{index}_{size}"]).max() < 5e-4
    assert np.abs(invert(matrix) - GOLDEN[f"inv_lm{index}_{size}"]).max() < 5e-4


@WITH_SHARED
def test_no_golden_of_the_pipeline_at_hand_is_left_out():
    at_hand = {path.stem for path in SHARED.glob("pipeline_*.png")}

    assert at_hand == {
        *COMMITTED,
        "pipeline_in512_sr2",
        *(f"pipeline_crop512_{index}" for index in range(3)),
    }


@WITH_SHARED
@pytest.mark.parametrize("name", COMMITTED)
def test_the_committed_pictures_are_copies(name):
    assert (HERE / f"{name}.png").read_bytes() == (SHARED / f"{name}.png").read_bytes()
