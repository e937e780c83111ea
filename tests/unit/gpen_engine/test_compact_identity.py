"""The identity network: dlib's file is read strictly, and the port says what dlib says."""

import math
from importlib.util import find_spec

import cv2
import numpy as np
import pytest
import torch

from gpen_engine.align import template
from gpen_engine.compact.data import Crop, cut, to_tensor
from gpen_engine.compact.dlib_file import SAME_PERSON, parse
from gpen_engine.compact.identity import FaceNet, load_face_net
from tests.golden.recipe import SHARED

LONDON = SHARED.parents[1] / "faces_train" / "london"
PEOPLE = ("001", "002", "003", "004", "005", "006", "008", "009", "010", "011")
PACKAGE = "face_recognition_models"

CHIP_POINTS = (
    (0.225492, 0.215990),
    (0.754761, 0.215990),
    (0.490127, 0.515625),
    (0.254149, 0.780233),
    (0.726104, 0.780233),
)
"""Eyes, nose tip, corners of the mouth in the unit square of dlib's mean face."""

DESCRIPTOR = """
    -68702 81896 40073 -80569 -54904 -94337 -99240 -80058 149494 -81764 175772 -50625 -232241 -31764
    -10393 163161 -174979 -69151 -158532 -106654 5999 63840 -28315 906 -73000 -241019 -61550 -74611
    43662 -81264 58532 107363 -164115 -50065 37510 14520 -22225 -37791 116369 -25332 -191863 -51062
    44507 242348 207214 49066 6360 -98061 41687 -278662 -32148 114577 27808 87776 69213 -192683
    20659 100992 -186870 2303 57552 -133202 -46672 -106462 269770 68609 -120723 -144950 189929
    -152262 -10314 113209 -69397 -146234 -272134 -5881 366838 115099 -92926 72557 -120243 -62473
    -12048 48445 -36468 -26252 16597 36733 209543 -94102 54239 203645 -19908 -47645 -66645 -41526
    -61786 5932 -57876 2767 10891 -94878 61802 102635 -165738 144274 28365 -23606 23029 25453 -17348
    -81682 196755 -266730 214562 202038 92892 129224 -19477 131520 -19214 -16629 -149251 -33250
    38737 -40423 -28760 44241
"""
"""What dlib 20.0.1 says of `drawn_face()`, in millionths (`compute_face_descriptor` on a CPU)."""


def drawn_face():
    """A face of discs, `(150, 150, 3) uint8`, in whole numbers so that it is the same anywhere."""
    y, x = np.mgrid[:150, :150]
    face = np.stack([210 - x // 3, 160 - y // 4, 130 + (x - y) // 5], axis=2)
    face[(x - 75) ** 2 * 4 + (y - 78) ** 2 * 2 > 24_000] = (60, 80, 70)
    discs = ((53, 46, 9, 40), (97, 46, 9, 40), (75, 78, 7, 110), (75, 105, 13, 75))
    for left, top, radius, tone in discs:
        face[(x - left) ** 2 + (y - top) ** 2 * 2 < radius**2] = (tone + 40, tone, tone)
    return face.astype(np.uint8)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Compute in one thread: several wait for each other busily where the cores are shared."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def random_net():
    torch.manual_seed(3)
    return FaceNet().eval().requires_grad_(requires_grad=False)


# A file like dlib's, written by dlib's rules and not by the reader's.

VERSIONS = (
    "22222112222212222222122222221222112222212222222122222221222112222"
    "21222222212222222122222221222112222212222222122222221222222212223"
)
"""The layers' versions, as they stand in the published file from its 30th byte on."""


def integers(*values):
    """A byte with the sign and the length, then as many little-endian bytes as it takes."""
    data = b""
    for value in values:
        length = max(1, (abs(value).bit_length() + 7) // 8)
        data += bytes([length | (0x80 if value < 0 else 0)]) + abs(value).to_bytes(length, "little")
    return data


def reals(*values):
    """A mantissa and an exponent of 2."""
    parts = (math.frexp(value) for value in values)
    return b"".join(integers(int(part * 2**53), exponent - 53) for part, exponent in parts)


def text(value):
    return integers(len(value)) + value.encode()


def tensor(numbers, *shape):
    return integers(2, *shape) + numbers.astype("<f4").tobytes()


LEFTOVERS = b"110" + 3 * integers(2, 0, 0, 0, 0)


def layer(name, *values):
    return text(name) + integers(*values) + LEFTOVERS


def convolution(module, rng, *, first=False):
    """A convolution and the affine layer after it, which together are `module`."""
    weight, bias = module.weight.numpy(), module.bias.numpy()
    count, side, stride, padding = (
        len(bias),
        weight.shape[2],
        *module.stride[:1],
        *module.padding[:1],
    )
    gain, shift = rng.uniform(0.5, 2, count), rng.uniform(-1, 1, count)
    numbers = np.concatenate([(weight / gain[:, None, None, None]).ravel(), (bias - shift) / gain])
    vector = integers(1, 1, count, 1, 1)
    return b"".join(
        [
            text("con_4") + tensor(numbers, numbers.size, 1, 1, 1),
            integers(count, side, side, stride, stride, padding, padding, 1, *weight.shape),
            vector + reals(1, 1, 1, 0) + LEFTOVERS + (integers(1) if first else b""),
            text("affine_") + tensor(np.concatenate([gain, shift]), 2 * count, 1, 1, 1),
            vector + vector + integers(0) + LEFTOVERS,
        ]
    )


def block(module, rng):
    down = module.first.stride == (2, 2)
    return b"".join(
        [
            convolution(module.first, rng) + layer("relu_") + convolution(module.second, rng),
            layer("avg_pool_2", 2, 2, 2, 2, 0, 0) if down else b"",
            layer("add_prev_") + layer("relu_"),
        ]
    )


@pytest.fixture(scope="module")
def random_file(random_net):
    """The random network as dlib would have written it."""
    rng = np.random.default_rng(5)
    return b"".join(
        [
            integers(1) + text("loss_metric_2") + reals(0.04, 0.6),
            integers(*map(int, VERSIONS)) + text("input_rgb_image_sized"),
            reals(122.782, 117.001, 104.298) + integers(150, 150),
            convolution(random_net.stem, rng, first=True),
            layer("relu_") + layer("max_pool_2", 3, 3, 2, 2, 0, 0),
            *(block(module, rng) for level in random_net.levels for module in level),
            layer("avg_pool_2", 0, 0, 1, 1, 0, 0) + text("fc_2") + integers(128, 256),
            tensor(random_net.head.weight.numpy().T, 256, 128, 1, 1),
            integers(1, 256, 128, 1, 1, 1, 0, 0, 0, 0, 1) + reals(1, 1, 1, 0) + LEFTOVERS,
        ]
    )


def test_the_reader_gives_back_what_dlib_would_have_written(random_net, random_file):
    state = parse(random_file)
    expected = random_net.state_dict()
    assert state.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(state[name], weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("length", [0, 1, 12, 200, 340, 20_000, 1_000_000, -1])
def test_a_file_that_ends_early_is_refused(random_file, length):
    with pytest.raises(ValueError, match="ends where"):
        parse(random_file[:length])


def test_a_file_with_more_after_its_end_is_refused(random_file):
    with pytest.raises(ValueError, match="more follows"):
        parse(random_file + b"\x00")


@pytest.mark.parametrize(
    ("theirs", "other"),
    [
        (b"loss_metric_2", b"loss_ranking2"),
        (integers(2, 2, 2, 2, 2, 1, 1), integers(2, 2, 2, 2, 2, 2, 1)),
        (reals(122.782), reals(128.0)),
        (integers(150, 150), integers(151, 150)),
        (text("con_4"), text("con_5")),
        (integers(2, 4736, 1, 1, 1), integers(2, 4737, 1, 1, 1)),
        (layer("max_pool_2", 3, 3, 2, 2, 0, 0), layer("max_pool_2", 3, 3, 2, 2, 1, 1)),
        (LEFTOVERS, b"120" + LEFTOVERS[3:]),
        (integers(2, 4736), b"\x09" + integers(2, 4736)[1:]),
    ],
    ids=["loss", "layers", "mean", "side", "layer", "weights", "pooling", "flags", "integer"],
)
def test_the_file_of_another_network_is_refused(random_file, theirs, other):
    assert theirs in random_file
    with pytest.raises(ValueError, match="not dlib's face recognition network"):
        parse(random_file.replace(theirs, other, 1))


def test_a_weight_that_is_no_number_is_refused(random_file):
    start = random_file.index(integers(2, 4736, 1, 1, 1)) + len(integers(2, 4736, 1, 1, 1))
    with pytest.raises(ValueError, match="finite"):
        parse(random_file[:start] + np.float32("nan").tobytes() + random_file[start + 4 :])


def test_a_file_with_another_hash_is_refused_though_it_could_be_read(tmp_path, random_file):
    path = tmp_path / "other.dat"
    path.write_bytes(random_file)
    with pytest.raises(ValueError, match=r"other\.dat.*sha256"):
        load_face_net(path)


def test_the_package_is_found_and_not_imported(tmp_path, monkeypatch):
    folder = tmp_path / PACKAGE
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    path = folder / "models" / "dlib_face_recognition_resnet_model_v1.dat"
    path.write_bytes(b"another")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=str(path)):
        load_face_net()


def test_a_missing_package_is_named_with_the_extra_that_brings_it(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    with pytest.raises(FileNotFoundError, match=r"face_recognition_models.*gpen-archive\[train\]"):
        load_face_net()


# The network.


def test_every_depth_has_dlibs_shape(random_net):
    shapes = [tuple(map_.shape) for map_ in random_net.features(torch.zeros(2, 3, 64, 64))]
    assert shapes == [
        (2, 32, 35, 35),
        (2, 32, 35, 35),
        (2, 64, 17, 17),
        (2, 128, 8, 8),
        (2, 256, 4, 4),
        (2, 256, 2, 2),
        (2, 128),
    ]


def test_a_shortcut_larger_than_its_block_is_met_by_zeros_at_the_far_side():
    halving = FaceNet().levels[4][0].requires_grad_(requires_grad=False)
    for weight in halving.parameters():
        weight.zero_()
    halving.second.bias.fill_(1)
    added = halving(torch.full((1, 256, 4, 4), 3.0))
    assert added[0, 7].tolist() == [[4, 3], [3, 3]]


def test_a_shortcut_with_fewer_channels_is_met_by_zeros_after_them():
    halving = FaceNet().levels[1][0].requires_grad_(requires_grad=False)
    for weight in halving.parameters():
        weight.zero_()
    added = halving(torch.full((1, 32, 9, 9), 3.0))
    assert added.shape == (1, 64, 4, 4)
    assert added[0, :, 2, 2].tolist() == 32 * [3] + 32 * [0]


@pytest.mark.parametrize("side", [64, 128, 512])
def test_the_gradient_reaches_the_face(random_net, side):
    faces = torch.zeros(2, 3, side, side, requires_grad=True)
    random_net(faces).square().sum().backward()
    assert torch.isfinite(faces.grad).all()
    centre = slice(side // 3, side * 2 // 3)
    seen = faces.grad[:, :, centre, centre].abs().sum(dim=1) > 0
    assert seen.float().mean() > 0.99


# The chip.


def spot(net, side, at):
    """Return where in the chip, as a part of its side, a dot on a crop of `side` pixels is seen."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    away = (x + 0.5 - at[0] * side) ** 2 + (y + 0.5 - at[1] * side) ** 2
    dot = torch.exp(-away / (2 * (side / 64) ** 2)).expand(1, 3, side, side)
    chip = net.chips(dot * 2 - 1)[0, 0]
    middles = (torch.arange(150) + 0.5) / 150
    columns, rows = chip.sum(dim=0), chip.sum(dim=1)
    return [float((line * middles).sum() / line.sum()) for line in (columns, rows)]


@pytest.mark.parametrize("side", [64, 128, 256, 500, 512, 1024])
def test_the_templates_points_are_seen_where_dlibs_mean_face_has_them(random_net, side):
    found = np.array([spot(random_net, side, point) for point in template(1)])
    expected = (np.array(CHIP_POINTS) + 0.25) / 1.5
    # A least-squares similarity maps mean to mean; the faces differ a little in shape, which at
    # the corners of the mouth comes to three of the chip's pixels.
    assert np.abs(found.mean(axis=0) - expected.mean(axis=0)).max() < 0.05 / 150
    assert np.linalg.norm(found - expected, axis=1).max() < 3.2 / 150


def test_a_chip_keeps_the_levels_of_the_face(random_net):
    faces = torch.tensor([-1.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, 256, 256)
    expected = torch.tensor([0.0, 127.5, 255.0]).view(1, 3, 1, 1).expand(1, 3, 150, 150)
    torch.testing.assert_close(random_net.chips(faces), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("side", [512, 1024])
def test_a_pattern_finer_than_the_chips_pixels_is_averaged(random_net, side):
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    pattern = ((x + y) % 2 * 2.0 - 1.0).expand(1, 3, side, side)
    assert (random_net.chips(pattern) - 127.5).abs().max() < 1e-3


# dlib's own weights.


@pytest.fixture(scope="module")
def net():
    if find_spec(PACKAGE) is None:
        pytest.skip(f"{PACKAGE} isn't installed")
    return load_face_net()


def descriptor(net, name, side=256):
    path = LONDON / name
    stored = cv2.imread(str(path)).shape[0]
    corners = np.float32([[0, 0], [stored, 0], [stored, stored], [0, stored]])
    face, _ = cut(Crop(path, "london", stored * 4 // 5, corners), side)
    return net(to_tensor(face)[None])[0]


def test_the_port_says_what_dlib_says(net):
    chip = torch.from_numpy(drawn_face()).permute(2, 0, 1)[None].float()
    expected = torch.tensor([int(value) / 1e6 for value in DESCRIPTOR.split()])
    torch.testing.assert_close(net.describe(chip)[-1][0], expected, rtol=0, atol=1e-5)


def test_the_loaded_network_is_not_trained_any_further(net):
    assert not net.training
    assert not any(weight.requires_grad for weight in net.parameters())


@pytest.mark.skipif(not LONDON.is_dir(), reason="../shared/faces_train isn't beside the project")
def test_two_portraits_of_a_person_are_nearer_than_those_of_two_people(net):
    neutral = torch.stack([descriptor(net, f"n_{person}.jpg") for person in PEOPLE])
    smiling = torch.stack([descriptor(net, f"s_{person}.jpg") for person in PEOPLE])
    distances = torch.cdist(neutral, smiling)
    same = distances.diagonal()
    others = distances[~torch.eye(len(PEOPLE), dtype=torch.bool)]
    assert same.max() < SAME_PERSON - 0.1
    assert same.max() < others.min()
    assert others.mean() > SAME_PERSON + 0.1


@pytest.mark.skipif(not LONDON.is_dir(), reason="../shared/faces_train isn't beside the project")
def test_the_size_of_the_crop_hardly_changes_the_descriptor(net):
    small, large = (descriptor(net, f"n_{PEOPLE[0]}.jpg", side) for side in (128, 256))
    assert torch.dist(small, large) < 0.15
