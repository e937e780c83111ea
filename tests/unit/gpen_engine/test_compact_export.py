"""The file that ships, out of a training's checkpoints."""

import pytest
import torch

from gpen_engine.checkpoint import hash_file, load_generator
from gpen_engine.compact import export as command
from gpen_engine.compact.export import export
from gpen_engine.compact.start import compact_config
from gpen_engine.errors import CheckpointMismatch
from gpen_engine.model import GpenGenerator

KEY = "final_linear.0.weight"


def weights(seed, size=32):
    torch.manual_seed(seed)
    return GpenGenerator(compact_config(size)).state_dict()


def checkpoint(path, mean, step=2):
    """Write what a training writes at each scoring."""
    torch.save({"g_ema": mean, "step": step}, path)
    return path


def test_the_exported_file_is_the_averaged_network_in_half_precision(tmp_path):
    mean, target = weights(1), tmp_path / "made" / "out.safetensors"

    sha256 = export([checkpoint(tmp_path / "last.pt", mean)], target)

    loaded = load_generator(target, expected_sha256=sha256)
    assert sha256 == hash_file(target)
    assert (loaded.model.config.size, loaded.model.config.narrow) == (32, 0.125)
    for key, value in loaded.model.state_dict().items():
        assert torch.equal(value, mean[key].half().float()), key


def test_several_checkpoints_of_a_run_are_exported_as_their_mean(tmp_path):
    early, late = weights(1), weights(2)
    files = [checkpoint(tmp_path / "a.pt", early), checkpoint(tmp_path / "b.pt", late)]

    export(files, tmp_path / "out.safetensors")

    mean = load_generator(tmp_path / "out.safetensors").model.state_dict()
    assert not torch.equal(late[KEY], early[KEY])
    torch.testing.assert_close(mean[KEY], (late[KEY] + early[KEY]) / 2, rtol=1e-3, atol=1e-3)


def test_a_checkpoint_without_averaged_weights_is_not_exported(tmp_path):
    torch.save({"g": weights(1), "step": 2}, tmp_path / "other.pt")

    with pytest.raises(ValueError, match=r"other\.pt has no averaged weights"):
        export([tmp_path / "other.pt"], tmp_path / "out.safetensors")


@pytest.mark.parametrize("order", [1, -1], ids=["the larger last", "the larger first"])
@pytest.mark.parametrize(
    ("other", "key"),
    [
        (lambda: weights(2, size=64), ".* is missing in one of them or has another shape"),
        (lambda: weights(2) | {KEY: torch.zeros(3, 2)}, KEY),
        (lambda: weights(2) | {"more": torch.zeros(1)}, "more"),
    ],
    ids=["another size", "another shape", "one more"],
)
def test_checkpoints_of_two_networks_have_no_mean(tmp_path, order, other, key):
    files = [
        checkpoint(tmp_path / "one.pt", weights(1)),
        checkpoint(tmp_path / "two.pt", other()),
    ][::order]
    expected = f"{files[1].name} is of another network than the first checkpoint"

    with pytest.raises(ValueError, match=f"{expected}: {key}"):
        export(files, tmp_path / "out.safetensors")

    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize(
    ("spoilt", "error"),
    [(torch.tensor([[7e4]]), ValueError), (torch.zeros(3, 2), CheckpointMismatch)],
    ids=["beyond float16", "misshapen"],
)
def test_a_failed_export_leaves_the_earlier_file_as_it_was(tmp_path, spoilt, error):
    file = checkpoint(tmp_path / "mean.pt", weights(1) | {KEY: spoilt})
    target = tmp_path / "out.safetensors"
    target.write_text("the earlier file")

    with pytest.raises(error, match=KEY):
        export([file], target)

    assert target.read_text() == "the earlier file"
    assert {path.name for path in tmp_path.iterdir()} == {"mean.pt", "out.safetensors"}


# The command.


def test_the_command_prints_the_hash_of_what_it_wrote(tmp_path, capsys):
    target = tmp_path / "out.safetensors"

    code = command.main([str(target), str(checkpoint(tmp_path / "last.pt", weights(1)))])

    assert code == 0
    assert capsys.readouterr().out == f"{hash_file(target)}\n"


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda _: None, "there is no checkpoint"),
        (lambda path: path.write_text("no weights"), "is damaged"),
        (lambda path: checkpoint(path, {"a": torch.zeros(1)}), "is no GPEN generator"),
        (lambda path: torch.save({}, path), "has no averaged weights"),
    ],
    ids=["absent", "damaged", "another network", "empty"],
)
def test_a_checkpoint_that_can_not_be_exported_is_named_in_a_sentence(tmp_path, capsys, made, told):
    made(tmp_path / "last.pt")

    code = command.main([str(tmp_path / "out.safetensors"), str(tmp_path / "last.pt")])

    assert code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert not (tmp_path / "out.safetensors").exists()
