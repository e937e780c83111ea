"""The prepared network: the same function as the plain one, in less memory, safe in float16."""

import gc
import weakref

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812 - its customary name

from benchmarks.measure import LiveBytes
from gpen_engine import inference
from gpen_engine.checkpoint import load_generator
from gpen_engine.inference import PreparedGenerator
from gpen_engine.model import GpenConfig, GpenGenerator
from gpen_engine.precision import Precision
from gpen_engine.weights import COMPACT_FILE
from tests.golden import recipe

CPU = torch.device("cpu")
SMALL = GpenConfig(64, channel_multiplier=1, narrow=0.125)
CONFIGS = [
    GpenConfig(8, 1, 0.05),
    SMALL,
    GpenConfig(128, 2, 0.125),
    GpenConfig(256, 1, 0.125),
    GpenConfig(512, 2, 0.0625),
    GpenConfig(64, 1, 0.0625, in_size=16),
    GpenConfig(128, 2, 0.25, in_size=64),
]
NAMES = [f"{config.input_size}to{config.size}" for config in CONFIGS]


def make(config: GpenConfig = SMALL, seed: int = 3) -> GpenGenerator:
    """A network whose every tensor matters: biases and noise weights start at zero otherwise."""
    torch.manual_seed(seed)
    model = GpenGenerator(config).eval().requires_grad_(requires_grad=False)
    for name, value in model.named_parameters():
        if name.endswith(("bias", "noise.weight")):
            value.add_(torch.randn_like(value), alpha=0.3)
    return model


def prepare(model: GpenGenerator, precision: Precision = Precision.FP32) -> PreparedGenerator:
    return PreparedGenerator(model, device=CPU, precision=precision)


def faces(config: GpenConfig = SMALL, batch: int = 2) -> torch.Tensor:
    torch.manual_seed(7)
    return torch.rand(batch, 3, config.input_size, config.input_size) * 2 - 1


def off_by(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference, as a part of the largest value."""
    return float((found - expected).abs().max() / expected.abs().max())


def psnr(found: torch.Tensor, expected: torch.Tensor) -> float:
    """In dB, of faces in [-1, 1]."""
    error = (found.clamp(-1, 1) - expected.clamp(-1, 1)).square().mean()
    return float(10 * torch.log10(4 / error))


@pytest.fixture(scope="module")
def plain() -> GpenGenerator:
    return make()


@pytest.fixture(scope="module")
def compact() -> GpenGenerator:
    return load_generator(COMPACT_FILE).model


@pytest.mark.parametrize("config", CONFIGS, ids=NAMES)
def test_the_function_is_that_of_the_plain_network(config):
    model, x = make(config), faces(config)

    assert off_by(prepare(model)(x), model(x)) < 1e-5


@pytest.mark.parametrize("name", ["g64_cm1_n025_seeded", "g128_cm1_n025_face", "g256_cm1_n05_face"])
def test_the_output_is_the_committed_golden(name):
    golden = np.load(recipe.HERE / f"{name}.npz")
    size = int(name[1:].split("_")[0])
    narrow = 0.5 if "n05" in name else 0.25
    model = recipe.make_model({"size": size, "channel_multiplier": 1, "narrow": narrow})
    kept = name.endswith("seeded")
    picture = recipe.HERE / f"inputs/face_{size}.png"
    x = recipe.seeded_input(size, 2) if kept else recipe.face_input(picture)

    output = prepare(model)(x).numpy()

    part = output if "out" in golden else output[:, :, 3::8, 3::8]
    expected = golden["out" if "out" in golden else "out_stride8_off3"]
    np.testing.assert_allclose(part, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [1e-6, 1e-3, 1e4], ids=str)
def test_styles_of_any_size_give_what_the_plain_network_gives(size):
    model = make()
    for name, value in model.named_parameters():
        if "conv.modulation" in name and "rgb" not in name:
            value.mul_(size)
    x = faces()

    assert off_by(prepare(model)(x), model(x)) < 1e-5


@pytest.mark.parametrize("size", [0, 1e-5, 1e4], ids=str)
def test_filters_of_any_size_give_what_the_plain_network_gives(size):
    model = make()
    model.get_parameter("generator.convs.2.conv.weight")[0, 1].mul_(size)
    model.get_parameter("generator.convs.3.conv.weight").mul_(size)
    x = faces()

    assert off_by(prepare(model)(x), model(x)) < 1e-5


def test_a_checkpoint_in_float16_is_prepared_from_its_values_in_float32(plain):
    halved = make()
    halved.load_state_dict({name: value.half() for name, value in plain.state_dict().items()})
    x = faces()

    assert off_by(prepare(halved.half())(x), halved.float()(x)) < 1e-5


@pytest.mark.parametrize("config", [SMALL, CONFIGS[5]], ids=[NAMES[1], NAMES[5]])
def test_faces_that_go_through_together_come_out_as_they_do_alone(config, monkeypatch):
    network, x = prepare(make(config)), faces(config, batch=3)
    alone = network(x)

    monkeypatch.setattr(PreparedGenerator, "_at_once", lambda _network, batch: batch)

    assert off_by(network(x), alone) < 1e-5


def test_on_a_cpu_the_bits_do_not_depend_on_the_grouping(plain):
    network, x = prepare(plain), faces(batch=5)

    together = network(x)

    assert torch.equal(together, torch.cat([network(x[:2]), network(x[2:])]))
    assert torch.equal(together.flip(0), network(x.flip(0)))


@pytest.mark.parametrize("precision", Precision)
def test_the_same_faces_give_the_same_bits_again(plain, precision):
    network, x = prepare(plain, precision), faces()
    kept = x.clone()
    first = network(x)

    assert torch.equal(network(x), first)
    assert torch.equal(x, kept)


def test_the_memory_layout_of_the_input_does_not_matter(plain):
    network, x = prepare(plain), faces()

    assert torch.equal(network(x.contiguous(memory_format=torch.channels_last)), network(x))


@pytest.mark.parametrize(
    ("precision", "decibels"), [(Precision.FP16, 70), (Precision.BF16, 52)], ids=str
)
def test_a_face_looks_the_same_in_the_lower_precisions(compact, precision, decibels):
    x = recipe.face_input(recipe.HERE / "inputs/face_256.png")

    output = prepare(compact, precision)(x)

    assert output.dtype == torch.float32
    assert psnr(output, prepare(compact)(x)) > decibels


@pytest.mark.parametrize("part", ["conv.modulation", "conv.weight"])
def test_float16_bears_styles_and_filters_that_would_overflow_it(part):
    """In the published form the convolution's input or output would reach 1e6 and more."""
    model = make()
    for name, value in model.named_parameters():
        if part in name and "rgb" not in name:
            value.mul_(1e6)
    x = faces()

    output = prepare(model, Precision.FP16)(x)

    assert off_by(output, model(x)) < 0.02


def test_a_style_of_nothing_but_zeros_gives_a_finite_face():
    model = make()
    for name, value in model.named_parameters():
        if "modulation" in name:
            value.zero_()
    x = faces()

    assert off_by(prepare(model)(x), model(x)) < 1e-5
    assert prepare(model, Precision.FP16)(x).isfinite().all()


def test_preparing_leaves_the_model_alone_and_lets_it_go():
    model, x = make(), faces()
    expected = model(x)
    network = prepare(model)
    assert torch.equal(model(x), expected)

    for value in model.parameters():
        value.zero_()
    assert off_by(network(x), expected) < 1e-5

    memory = [weakref.ref(value.untyped_storage()) for value in model.parameters()]
    del model, value
    gc.collect()
    assert all(storage() is None for storage in memory)


def test_the_network_says_how_large_its_faces_are():
    network = prepare(make(GpenConfig(64, 1, 0.0625, in_size=16)))

    assert (network.input_size, network.size) == (16, 64)
    assert network(torch.zeros(3, 3, 16, 16)).shape == (3, 3, 64, 64)


def test_float16_halves_what_the_convolutions_weigh(compact):
    convolutions = sum(
        value.nbytes for value in compact.parameters() if value.ndim >= 4 and value.shape[-1] == 3
    )
    parameters = sum(value.nbytes for value in compact.parameters())

    full, half = prepare(compact), prepare(compact, Precision.FP16)

    assert parameters <= full.weights_bytes < 1.1 * parameters
    saved = full.weights_bytes - half.weights_bytes
    assert saved == pytest.approx(convolutions / 2, rel=0.02)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.BF16])
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize(
    "config",
    [SMALL, GpenConfig(128, 2, 0.125), GpenConfig(64, 2, 0.25), GpenConfig(256, 1, 0.125, 64)],
    ids=lambda config: f"{config.input_size}to{config.size}",
)
def test_a_pass_takes_no_more_than_the_network_says(config, batch, precision, monkeypatch):
    network, x = prepare(make(config), precision), faces(config, batch)
    # Together, as on a card: one by one, as on a CPU, is the same with a batch of one.
    monkeypatch.setattr(PreparedGenerator, "_at_once", lambda _network, batch: batch)
    with LiveBytes() as live:
        network(x)

    tensors = network.activation_bytes(batch) - inference._SCRATCH_BYTES

    assert 0.7 * tensors < live.peak <= tensors


def test_on_a_cpu_a_batch_takes_hardly_more_than_one_face(plain):
    network = prepare(plain)

    with LiveBytes() as live:
        network(faces(batch=6))

    assert live.peak <= network.activation_bytes(6) - inference._SCRATCH_BYTES
    assert network.activation_bytes(6) - network.activation_bytes(1) == 6 * 2 * 3 * 64 * 64 * 4


def test_a_pass_of_the_512_network_keeps_to_its_budget():
    """By the numbers that the planner goes by; the benchmark measures the process."""
    with torch.device("meta"):
        model = GpenGenerator(GpenConfig(512))
    stated = {}
    for precision in (Precision.FP32, Precision.FP16):
        network = PreparedGenerator(model, device=torch.device("meta"), precision=precision)
        stated[precision] = network.activation_bytes(1) / 1e6
        weights = network.weights_bytes / 1e6

    assert stated[Precision.FP32] < 500
    assert stated[Precision.FP16] < 260
    assert weights + stated[Precision.FP16] < 512


def test_float32_is_float32_and_every_run_the_same_on_cards_too(plain, monkeypatch):
    """CuDNN would take TF32, and whichever algorithm is fastest that day."""
    seen = []
    convolve = F.conv2d

    def spying(*args, **options):
        settings = torch.backends.cudnn
        seen.append((settings.allow_tf32, settings.deterministic, settings.benchmark))
        return convolve(*args, **options)

    monkeypatch.setattr(F, "conv2d", spying)
    before = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic

    prepare(plain)(faces())

    assert set(seen) == {(False, True, False)}
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic) == before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(
    ("precision", "tolerance"), [(Precision.FP32, 1e-4), (Precision.FP16, 0.02)], ids=str
)
def test_a_card_gives_what_the_cpu_gives(plain, precision, tolerance):
    x = faces(batch=3)
    network = PreparedGenerator(plain, device=torch.device("cuda"), precision=precision)

    assert off_by(network(x.cuda()).cpu(), plain(x)) < tolerance
