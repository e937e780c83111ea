"""A weights file in, a network out; anything else is refused by name."""

import io
import pickle
import signal
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gpen_engine.checkpoint import hash_file, infer_config, load_generator, unwrap
from gpen_engine.errors import (
    CheckpointCorrupt,
    CheckpointError,
    CheckpointMismatch,
    CheckpointUnknown,
)
from gpen_engine.model import GpenConfig, GpenGenerator

TINY = GpenConfig(16, channel_multiplier=1, narrow=4 / 512)

# Widths divide evenly in these, so that the very same configuration is read back.
EXACT = [
    GpenConfig(16, channel_multiplier=1, narrow=4 / 512),
    GpenConfig(64, channel_multiplier=2, narrow=1 / 64),
    GpenConfig(64, channel_multiplier=1, narrow=1 / 64),
    GpenConfig(128, channel_multiplier=1.5, narrow=1 / 32),
    GpenConfig(128, channel_multiplier=2, narrow=0.125),
    GpenConfig(256, channel_multiplier=1, narrow=0.5),
    GpenConfig(512),
    GpenConfig(1024),
    GpenConfig(2048),
    GpenConfig(64, channel_multiplier=2, narrow=1 / 64, in_size=16),
    GpenConfig(128, channel_multiplier=2, narrow=1 / 32, in_size=64),
    GpenConfig(256, channel_multiplier=2, narrow=1 / 32, in_size=32),
    GpenConfig(1024, in_size=512),
]
# Widths are cut to whole channels in these: another configuration may have the same shapes.
CUT = [
    GpenConfig(512, channel_multiplier=1, narrow=0.07),
    GpenConfig(512, channel_multiplier=1, narrow=0.3),
    GpenConfig(256, channel_multiplier=1.3, narrow=0.111),
    GpenConfig(1024, channel_multiplier=2, narrow=0.19, in_size=256),
    GpenConfig(128, channel_multiplier=1.7, narrow=0.05, in_size=8),
]


def empty(config):
    with torch.device("meta"):
        return GpenGenerator(config)


def shapes(config):
    return {key: tuple(value.shape) for key, value in empty(config).state_dict().items()}


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(1)
    return GpenGenerator(TINY).state_dict()


@pytest.fixture
def save(tmp_path):
    def write(content, name="weights.pth") -> Path:
        path = tmp_path / name
        if name.endswith(".safetensors"):
            save_file(content, path)
        else:
            torch.save(content, path)
        return path

    return write


@pytest.mark.parametrize("config", EXACT, ids=str)
def test_the_configuration_is_read_off_the_shapes(config):
    assert infer_config(empty(config).state_dict(), name="x") == config


@pytest.mark.parametrize("config", CUT, ids=str)
def test_widths_cut_to_whole_channels_are_read_off_too(config):
    inferred = infer_config(empty(config).state_dict(), name="x")

    assert shapes(inferred) == shapes(config)


WRAPPERS = {
    "bare": lambda state: state,
    "g_ema": lambda state: {"g": {}, "g_ema": state, "d_optim": {"lr": 0.1}},
    "params_ema": lambda state: {"params_ema": state},
    "params": lambda state: {"params": state},
    "state_dict": lambda state: {"epoch": 3, "state_dict": state},
    "module": lambda state: {f"module.{key}": value for key, value in state.items()},
    "module in state_dict": lambda state: {
        "state_dict": {f"module.{key}": value for key, value in state.items()}
    },
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_wrapped_checkpoint_loads_as_the_bare_one(save, state, wrapper):
    loaded = load_generator(save(WRAPPERS[wrapper](state)))

    assert loaded.model.config == TINY
    for key, value in loaded.model.state_dict().items():
        assert torch.equal(value, state[key]), key


def test_the_averaged_weights_win_over_those_in_training(save, state):
    training = {key: value + 1 for key, value in state.items()}

    loaded = load_generator(save({"g": training, "params": training, "g_ema": state}))

    assert torch.equal(loaded.model.ecd0[0][1].bias, state["ecd0.0.1.bias"])


def test_a_safetensors_file_loads(save, state):
    path = save(state, "weights.safetensors")

    loaded = load_generator(path)

    assert loaded.path == path
    assert torch.equal(loaded.model.final_linear[0].weight, state["final_linear.0.weight"])


@pytest.mark.parametrize("name", ["half.pth", "half.safetensors"])
def test_half_precision_weights_load_as_float32(save, state, name):
    loaded = load_generator(save({key: value.half() for key, value in state.items()}, name))

    assert {value.dtype for value in loaded.model.state_dict().values()} == {torch.float32}
    assert torch.equal(loaded.model.ecd0[0][0].weight, state["ecd0.0.0.weight"].half().float())


def test_a_file_of_the_old_pytorch_format_loads(tmp_path, state):
    path = tmp_path / "old.pth"
    torch.save(state, path, _use_new_zipfile_serialization=False)

    assert load_generator(path).model.config == TINY


def test_the_loaded_network_computes_what_the_saved_one_did(save):
    torch.manual_seed(4)
    model = GpenGenerator(TINY).eval()
    x = torch.randn(1, 3, 16, 16)

    loaded = load_generator(save(model.state_dict())).model

    assert torch.equal(loaded(x), model(x).detach())


def test_the_loaded_network_is_ready_for_use_not_for_training(save, state):
    model = load_generator(save(state)).model

    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_the_hash_of_the_file_is_handed_out(save, state):
    path = save(state)

    assert load_generator(path).sha256 == hash_file(path)
    assert load_generator(path, expected_sha256=hash_file(path)).sha256 == hash_file(path)


def test_another_hash_than_expected_is_refused_saying_both(save, state):
    path = save(state)

    with pytest.raises(CheckpointCorrupt) as caught:
        load_generator(path, expected_sha256="f" * 64)

    assert hash_file(path) in str(caught.value)
    assert "f" * 64 in str(caught.value)


def test_a_missing_file_is_corrupt(tmp_path):
    with pytest.raises(CheckpointCorrupt, match=r"absent\.pth: No such file"):
        load_generator(tmp_path / "absent.pth")


def test_a_folder_is_corrupt(tmp_path):
    with pytest.raises(CheckpointCorrupt, match="directory"):
        load_generator(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"conv.weight": torch.zeros(1)}, r"expected generator\.input\.input, found 1 tensors"),
        ({"conv.weight": torch.zeros(1)}, r"such as conv\.weight"),
        ({"epoch": 3, "name": "x"}, "no tensors by name; found epoch, name"),
        ({}, "found nothing"),
        (torch.zeros(3), "holds a Tensor, expected named tensors"),
        ([torch.zeros(3)], "holds a list"),
        ({"state_dict": {}}, "found nothing"),
    ],
)
def test_weights_of_something_else_are_unknown(save, content, said):
    with pytest.raises(CheckpointUnknown, match=said):
        load_generator(save(content))


def test_a_missing_tensor_is_a_mismatch_saying_which(save, state):
    cut = {key: value for key, value in state.items() if key != "generator.style.3.bias"}

    with pytest.raises(CheckpointMismatch) as caught:
        load_generator(save(cut))

    assert "generator.style.3.bias is missing" in str(caught.value)
    assert f"expected {len(state)} tensors, found {len(state) - 1}" in str(caught.value)


def test_an_extra_tensor_is_a_mismatch_saying_which(save, state):
    with pytest.raises(CheckpointMismatch, match=r"noises\.0 is not part of it"):
        load_generator(save(state | {"noises.0": torch.zeros(1)}))


def test_a_misshapen_tensor_is_a_mismatch_saying_found_and_expected(save, state):
    wrong = state | {"final_linear.0.bias": torch.zeros(7)}

    with pytest.raises(CheckpointMismatch, match=r"\(7,\), expected \(512,\)"):
        load_generator(save(wrong))


def test_many_faults_are_counted_not_listed(save, state):
    cut = {key: value for key, value in state.items() if ".style." not in key}

    with pytest.raises(CheckpointMismatch, match="and 13 more"):
        load_generator(save(cut))


@pytest.mark.parametrize("key", ["generator.input.input", "ecd0.0.0.weight"])
def test_a_telling_tensor_without_its_shape_is_a_mismatch(save, state, key):
    with pytest.raises(CheckpointMismatch):
        load_generator(save(state | {key: torch.zeros(())}))


def test_a_network_of_no_channels_is_a_mismatch(save, state):
    with pytest.raises(CheckpointMismatch):
        load_generator(save(state | {"generator.input.input": torch.zeros(1, 0, 4, 4)}))


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_with_code_is_refused_without_running_it(tmp_path, state, zipped):
    sprung = tmp_path / "sprung"
    path = tmp_path / "trap.pth"
    torch.save(state | {"x": Trap(sprung)}, path, _use_new_zipfile_serialization=zipped)

    with pytest.raises(CheckpointCorrupt, match="refused"):
        load_generator(path)

    assert not sprung.exists()


def test_a_plain_pickle_with_code_is_refused_without_running_it(tmp_path):
    sprung = tmp_path / "sprung"
    (tmp_path / "trap.pth").write_bytes(pickle.dumps({"x": Trap(sprung)}))

    with pytest.raises(CheckpointCorrupt):
        load_generator(tmp_path / "trap.pth")

    assert not sprung.exists()


@pytest.mark.parametrize("name", ["cut.pth", "cut.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_corrupt(save, state, name, share):
    path = save(state, name)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])

    with pytest.raises(CheckpointCorrupt, match=name):
        load_generator(path)


@pytest.mark.parametrize("name", ["text.pth", "text.safetensors", "text.bin"])
def test_a_file_that_is_no_weights_file_is_corrupt(tmp_path, name):
    (tmp_path / name).write_text("<html>404: not found</html>")

    with pytest.raises(CheckpointCorrupt, match=name):
        load_generator(tmp_path / name)


def damaged_pickles(state):
    """Damage the pickle inside a PyTorch file, with checksums that fit the damage."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with zipfile.ZipFile(buffer) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    index = next(name for name in members if name.endswith("data.pkl"))
    good, random = members[index], np.random.default_rng(2)
    for _ in range(500):
        bad = bytearray(good)
        for _ in range(random.integers(1, 12)):
            bad[random.integers(len(bad))] = random.integers(256)
        members[index] = bytes(bad)
        damaged = io.BytesIO()
        with zipfile.ZipFile(damaged, "w", zipfile.ZIP_STORED) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        yield damaged.getvalue()


def test_no_damage_to_the_pickle_raises_anything_but_a_checkpoint_error(tmp_path):
    small = {key: torch.zeros(1) for key in ("ecd0.0.0.weight", "generator.input.input")}
    path = tmp_path / "damaged.pth"
    others = set()
    for data in damaged_pickles(small):
        path.write_bytes(data)
        try:
            load_generator(path)
        except CheckpointError:
            continue
        except Exception as error:  # noqa: BLE001 - any other class is what this test looks for
            others.add(f"{type(error).__name__}: {str(error)[:80]}")

    assert not others


@pytest.fixture
def _hurry():
    """Fail a test that never ends."""

    def stop(_number, _frame):
        pytest.fail("it went round and round")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("_hurry")
def test_a_wrapper_that_holds_itself_is_refused():
    content: dict[str, object] = {"epoch": 1}
    content["state_dict"] = content

    with pytest.raises(CheckpointUnknown):
        unwrap(content, name="loop.pth")
