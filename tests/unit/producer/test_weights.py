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


@pytest.mark.parametrize("typed", ["nowhere.pth", "nowhere.SAFETENSORS", "some/where", "~/x.pt"])
def test_a_file_that_is_not_there_is_missed_at_once(typed):
    with pytest.raises(WeightsMissing):
        resolve(typed)


def test_a_folder_with_the_name_of_weights_does_not_hide_them(tmp_path, monkeypatch):
    (tmp_path / "compact").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve("compact").location == "compact"
