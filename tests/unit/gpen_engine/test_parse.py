"""Face parsing: from classes to masks, and from files to parsers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from gpen_engine import parse
from gpen_engine.checkpoint import hash_file
from gpen_engine.errors import CheckpointCorrupt, CheckpointMismatch, OutOfMemory
from gpen_engine.faces import ModelIdentity
from gpen_engine.parse import (
    BISENET_DESIGN,
    PARSENET_DESIGN,
    FaceParser,
    load_parser,
)
from tests.golden.recipe import SHARED, read_keys

CPU = torch.device("cpu")
DESIGNS = pytest.mark.parametrize(
    "design", [PARSENET_DESIGN, BISENET_DESIGN], ids=["parsenet", "bisenet"]
)


class Drawn(nn.Module):
    """Answers with a drawing of parts by name, quite sure of it, and keeps what it was shown."""

    def __init__(self, design, drawing) -> None:
        super().__init__()
        self.shown: list[torch.Tensor] = []
        indices = torch.tensor([design.parts.index(part) for part in drawing.ravel()])
        classes = nn.functional.one_hot(indices.view(512, 512), len(design.parts))
        self.scores = 20.0 * classes.permute(2, 0, 1)[None].float()

    def forward(self, x):
        self.shown.append(x)
        return self.scores, x


def portrait() -> np.ndarray:
    """Draw a head with hat, hair and glasses, on a neck above a shirt."""
    drawing = np.full((512, 512), "background", object)
    down, across = np.mgrid[0:512, 0:512]
    drawing[(down > 380) & (abs(across - 256) < 60)] = "neck"
    drawing[down > 450] = "cloth"
    drawing[((across - 256) / 150) ** 2 + ((down - 260) / 180) ** 2 <= 1] = "hair"
    drawing[((across - 256) / 110) ** 2 + ((down - 280) / 140) ** 2 <= 1] = "skin"
    drawing[230:260, 180:332] = "glasses"
    drawing[60:140, 130:382] = "hat"
    return drawing


def make_parser(design=PARSENET_DESIGN, drawing=None) -> tuple[FaceParser, Drawn]:
    network = Drawn(design, portrait() if drawing is None else drawing)
    return FaceParser(network, design, ModelIdentity("drawn", "0" * 64), device=CPU), network


def faces(count: int = 1, side: int = 512) -> torch.Tensor:
    return torch.linspace(-1, 1, count * 3 * side * side).view(count, 3, side, side)


@DESIGNS
def test_the_mask_is_one_in_the_face_and_nothing_where_there_is_none(design):
    parser, _ = make_parser(design)

    (mask,) = parser.masks(faces())

    assert mask.dtype == np.float32
    assert mask[200:380, 200:312].min() > 0.99  # skin, glasses
    assert (mask[260, 120:130] > 0.2).all()  # hair
    drawing = portrait()
    for part in ("background", "hat", "cloth", "neck"):
        assert mask[drawing == part].max() < 0.02, part


@DESIGNS
def test_the_mask_is_smooth(design):
    parser, _ = make_parser(design)

    (mask,) = parser.masks(faces())

    assert mask.min() == 0.0
    assert mask.max() == 1.0
    # From nothing to all in no less than a dozen pixels.
    assert max(np.abs(np.diff(mask, axis=axis)).max() for axis in (0, 1)) < 1 / 12


@pytest.mark.parametrize("side", [16, 64, 128, 512, 1024])
def test_the_mask_has_the_size_of_the_faces_and_is_nothing_near_the_border(side):
    parser, _ = make_parser(drawing=np.full((512, 512), "skin", object))

    masks = parser.masks(faces(2, side))

    assert masks.shape == (2, side, side)
    assert masks.min() >= 0.0
    assert masks.max() == 1.0
    margin = max(1, int(side * 0.06))
    edge = np.ones((side, side), np.bool_)
    edge[margin:-margin, margin:-margin] = False
    assert not masks[:, edge].any()


def test_an_uncertain_parser_gives_no_more_than_it_is_certain_of():
    parser, network = make_parser(drawing=np.full((512, 512), "skin", object))
    certain = parser.masks(faces())[0, 256, 256]
    network.scores = torch.zeros_like(network.scores)
    network.scores[:, [PARSENET_DESIGN.parts.index(part) for part in ("skin", "cloth")]] = 9.0

    doubtful = parser.masks(faces())[0, 256, 256]

    assert certain == 1.0
    assert doubtful < 0.01


@DESIGNS
def test_the_published_pipeline_takes_hair_and_neck_for_face_and_hat_and_cloth_not(design):
    parser, _ = make_parser(design)

    (area,) = parser.face_area(faces())

    drawing = portrait()
    assert area.dtype == np.bool_
    for part in ("skin", "glasses", "hair", "neck"):
        assert area[drawing == part].all(), part
    for part in ("background", "hat", "cloth"):
        assert not area[drawing == part].any(), part


@pytest.mark.parametrize(
    ("design", "no_face", "neck"),
    [(PARSENET_DESIGN, {0, 14, 18}, {16, 17}), (BISENET_DESIGN, {0, 16, 18}, {14, 15})],
    ids=["parsenet", "bisenet"],
)
def test_the_classes_left_out_have_the_numbers_of_the_published_lists(design, no_face, neck):
    parser, network = make_parser(design)
    taken, pasted = set(), set()
    for number in range(19):
        network.scores = torch.zeros(1, 19, 512, 512)
        network.scores[:, number] = 20.0
        if parser.face_area(faces()).all():
            taken.add(number)
        if parser.masks(faces(1, 64)).any():
            pasted.add(number)

    assert taken == set(range(19)) - no_face
    assert pasted == taken - neck


@DESIGNS
def test_each_parser_knows_the_same_nineteen_parts(design):
    assert len(design.parts) == 19
    assert set(design.parts) == set(PARSENET_DESIGN.parts)


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/gpen/goldens isn't beside the project")
def test_the_parsenet_here_has_the_tensors_of_the_published_one():
    with torch.device("meta"):
        network = PARSENET_DESIGN.build()

    tensors = [
        [key, list(value.shape), str(value.dtype).removeprefix("torch.")]
        for key, value in network.state_dict().items()
    ]
    assert tensors == read_keys("parsenet", SHARED)["state_dict"]


@DESIGNS
def test_the_networks_answer_with_the_classes_first(design):
    with torch.device("meta"):
        answer = design.build().eval()(torch.zeros(1, 3, 512, 512))

    assert answer[0].shape == (1, len(design.parts), 512, 512)


def test_faces_go_through_one_at_a_time_at_512_px():
    parser, network = make_parser()

    parser.masks(faces(3, 128))
    parser.face_area(faces(2, 1024))

    assert [tuple(x.shape) for x in network.shown] == [(1, 3, 512, 512)] * 5


@pytest.mark.parametrize(
    ("design", "black", "white"),
    [
        (PARSENET_DESIGN, (-1.0, -1.0, -1.0), (1.0, 1.0, 1.0)),
        (BISENET_DESIGN, (-2.1179, -2.0357, -1.8044), (2.2489, 2.4286, 2.6400)),
    ],
    ids=["parsenet", "bisenet"],
)
def test_each_network_sees_the_levels_that_it_was_trained_on(design, black, white):
    parser, network = make_parser(design)
    picture = torch.full((1, 3, 512, 512), -1.0)
    picture[..., 256:] = 7.0  # nothing is whiter than white

    parser.masks(picture)

    (x,) = network.shown
    torch.testing.assert_close(x[0, :, 0, 0], torch.tensor(black), rtol=0, atol=1e-3)
    torch.testing.assert_close(x[0, :, 0, -1], torch.tensor(white), rtol=0, atol=1e-3)


def test_no_faces_give_no_masks():
    parser, _ = make_parser()

    assert parser.masks(faces(0, 64)).shape == (0, 64, 64)
    assert parser.face_area(faces(0, 64)).shape == (0, 512, 512)


def test_what_a_parser_needs_is_stated_with_its_weights():
    with torch.device("meta"):
        network = PARSENET_DESIGN.build()
    parser = FaceParser(network, PARSENET_DESIGN, ModelIdentity("x", "0"), device=CPU)

    assert 85_000_000 < parser.needed_bytes - PARSENET_DESIGN.activation_bytes < 86_000_000


class Full(nn.Module):
    def forward(self, x):
        raise torch.OutOfMemoryError


def test_a_full_device_is_said_to_be_full():
    parser = FaceParser(Full(), PARSENET_DESIGN, ModelIdentity("full", "0" * 64), device=CPU)

    with pytest.raises(OutOfMemory, match="face parser on cpu"):
        parser.masks(faces())


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder with both files, of networks drawn at random, and their hashes."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    hashes = {}
    for name, design in (
        ("parsing_parsenet.pth", PARSENET_DESIGN),
        ("parsing_bisenet.pth", BISENET_DESIGN),
    ):
        torch.save(design.build().state_dict(), folder / name)
        hashes[name] = hash_file(folder / name)
    return folder, hashes


@pytest.fixture
def registered(weights, monkeypatch):
    """The same folder, its files standing in the registry in the place of the published ones."""
    folder, hashes = weights
    for constant in ("PARSENET", "BISENET"):
        known = getattr(parse, constant)
        monkeypatch.setattr(parse, constant, replace(known, sha256=hashes[known.files[0]]))
    return folder


def linked(folder, name, tmp_path, *, to=None):
    (tmp_path / (to or name)).symlink_to(folder / name)
    return tmp_path


@pytest.mark.parametrize("with_folder", [True, False])
def test_without_weights_there_is_no_parser(tmp_path, with_folder):
    assert load_parser(CPU, folder=tmp_path if with_folder else None) is None


def test_bisenet_is_loaded_from_its_file(registered, weights, tmp_path):
    parser = load_parser(CPU, folder=linked(registered, "parsing_bisenet.pth", tmp_path))

    assert parser.identity == ModelIdentity("bisenet", weights[1]["parsing_bisenet.pth"])
    saved = torch.load(registered / "parsing_bisenet.pth", weights_only=True)
    loaded = parser._network.state_dict()
    assert all(torch.equal(saved[key], loaded[key]) for key in saved)
    assert not parser._network.training
    masks = parser.masks(faces(1, 64))
    assert np.isfinite(masks).all()
    assert masks.shape == (1, 64, 64)


@pytest.mark.parametrize("name", ["parsing_parsenet.pth", "ParseNet-latest.pth"])
def test_parsenet_is_loaded_from_its_file_under_both_names(registered, weights, tmp_path, name):
    parser = load_parser(CPU, folder=linked(registered, "parsing_parsenet.pth", tmp_path, to=name))

    assert parser.identity == ModelIdentity("parsenet", weights[1]["parsing_parsenet.pth"])


def test_of_both_the_one_of_the_published_pipeline_is_taken(registered):
    assert load_parser(CPU, folder=registered).identity.name == "parsenet"


@pytest.mark.parametrize("name", ["parsing_parsenet.pth", "parsing_bisenet.pth"])
def test_a_file_that_only_bears_the_name_is_refused(weights, tmp_path, name):
    with pytest.raises(CheckpointCorrupt, match=r"has sha256 [0-9a-f]{64}, expected"):
        load_parser(CPU, folder=linked(weights[0], name, tmp_path))


def test_a_file_that_fits_no_network_here_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "parsing_bisenet.pth"
    torch.save({"conv.weight": torch.zeros(1)}, path)
    monkeypatch.setattr(parse, "BISENET", replace(parse.BISENET, sha256=hash_file(path)))

    with pytest.raises(CheckpointMismatch, match=r"parsing_bisenet\.pth doesn't fit facexlib"):
        load_parser(CPU, folder=tmp_path)
