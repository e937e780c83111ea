"""Restored by the real engine, then verified and made again, as a user does years later."""

import json

import numpy as np
import pytest
import typer
from PIL import Image
from skimage import data
from typer.testing import CliRunner

from producer.options import with_recipe
from worker import commands, commands_audit


@pytest.fixture
def call():
    app = typer.Typer()
    commands.register(app, with_recipe)
    commands_audit.register(app, with_recipe)

    def call(*arguments):
        result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
        return result.exit_code, result.output

    return call


def test_a_portrait_is_verified_and_comes_out_again_byte_for_byte(tmp_path, call, monkeypatch):
    monkeypatch.setenv("GPEN_FACE_CACHE", str(tmp_path / "faces"))
    masters, derivatives = tmp_path / "in", tmp_path / "out"
    masters.mkdir()
    derivatives.mkdir()
    Image.fromarray(data.astronaut()).resize((160, 160)).save(masters / "a.png")
    derivative = derivatives / "a.restored.png"
    assert call("restore", masters / "a.png", derivative, "--device", "cpu")[0] == 0
    sidecar = json.loads((derivatives / "a.restored.png.json").read_text("utf-8"))
    assert sidecar["faces"][0]["restored"] is True
    assert sidecar["proof"]["outside_regions"] == "identical"

    code, output = call("verify", derivatives, "--masters", masters)
    assert code == 0, output
    assert "1 photo: all fine." in output

    where = ("--masters", masters, "--device", "cpu")
    code, output = call("reproduce", f"{derivative}.json", *where)
    assert code == 0, output
    assert "identical, byte for byte" in output

    master = np.asarray(Image.open(masters / "a.png")).copy()
    master[0, 0] ^= 1
    Image.fromarray(master).save(masters / "a.png")
    code, output = call("verify", derivatives, "--masters", masters)
    assert code == 3
    assert "master" in output
