import hashlib

import pytest

from producer.errors import WeightsMissing
from producer.weights import Weights, resolve


def test_a_name_is_passed_on_to_recipe_and_worker():
    assert resolve("compact") == Weights(identity="compact", location="compact")


def test_a_file_is_known_by_its_content_and_found_by_its_path(tmp_path, monkeypatch):
    (tmp_path / "GPEN-BFR-512.pth").write_bytes(b"tensors")
    monkeypatch.chdir(tmp_path)
    assert resolve("GPEN-BFR-512.pth") == Weights(
        identity=hashlib.sha256(b"tensors").hexdigest(),
        location=str((tmp_path / "GPEN-BFR-512.pth").resolve()),
    )


@pytest.mark.parametrize("typed", ["Compact", "COMPACT"])
def test_a_name_means_the_same_in_any_case(typed):
    assert resolve(typed).identity == "compact"


@pytest.mark.parametrize("typed", ["sharpener:Sharp.pth", "sharpener:{folder}/Sharp.pth"])
def test_a_plugins_file_keeps_its_restorer(tmp_path, monkeypatch, typed):
    (tmp_path / "Sharp.pth").write_bytes(b"tensors")
    monkeypatch.chdir(tmp_path)
    assert resolve(typed.format(folder=tmp_path)) == Weights(
        identity=hashlib.sha256(b"tensors").hexdigest(),
        location=f"sharpener:{(tmp_path / 'Sharp.pth').resolve()}",
    )


@pytest.mark.parametrize("name", ["scan:3.pth", "some/where:face.pth"])
def test_a_colon_may_belong_to_the_files_own_path(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some").mkdir()
    for other in (name, name.partition(":")[2]):
        (tmp_path / other).write_bytes(other.encode())
    assert resolve(name) == Weights(
        identity=hashlib.sha256(name.encode()).hexdigest(),
        location=str((tmp_path / name).resolve()),
    )


@pytest.mark.parametrize(
    "typed",
    [
        "nowhere.pth",
        "nowhere.SAFETENSORS",
        "some/where",
        "~/x.pt",
        "sharpener:nowhere.pth",
        "some/where:face.pth",
        ":face.pth",
    ],
)
def test_a_file_that_is_not_there_is_missed_at_once(tmp_path, monkeypatch, typed):
    (tmp_path / "face.pth").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsMissing):
        resolve(typed)


def test_a_folder_with_the_name_of_weights_does_not_hide_them(tmp_path, monkeypatch):
    (tmp_path / "compact").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve("compact").location == "compact"
