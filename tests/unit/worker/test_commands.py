import io
import json

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from gpen_engine import CheckpointCorrupt
from jobs.errors import DestinationExists, PhotoUnsupported, SourceMissing
from jobs.settings import JobSettings
from producer.options import with_recipe
from worker import commands


@pytest.fixture
def restore(bench, monkeypatch):
    """The command `restore` with a stub engine; what it raises comes out."""
    monkeypatch.setattr(commands, "load_engine", lambda _settings: bench.engine)
    app = typer.Typer()
    app.callback()(lambda: None)
    commands.register(app, with_recipe)

    def call(*arguments):
        result = CliRunner().invoke(app, ["restore", *map(str, arguments)])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


@pytest.fixture
def master(tmp_path, picture):
    path = tmp_path / "in.png"
    path.write_bytes(picture)
    return path


def test_one_picture_is_written_with_its_sidecar(restore, master, tmp_path, picture):
    result = restore(master, tmp_path / "out.tif", "--strength", "0.5")
    assert "1 of 1 finds restored" in result.output
    sidecar = json.loads((tmp_path / "out.tif.json").read_text())
    assert sidecar["recipe"]["strength"] == 0.5
    assert sidecar["master"]["key"] == "in.png"
    assert sidecar["derivative"]["content_type"] == "image/tiff"
    assert (tmp_path / "out.tif").stat().st_size == sidecar["derivative"]["bytes"]
    assert master.read_bytes() == picture


def test_a_picture_that_was_not_looked_at_is_said_so_with_the_reason(restore, tmp_path, bench):
    halftone = tmp_path / "in.tif"
    Image.new("1", (40, 30)).save(halftone)
    first, *notes = restore(halftone, tmp_path / "out.tif").output.splitlines()
    assert "no face was looked for" in first
    assert [note for note in notes if "no tones to restore" in note]
    assert bench.engine.calls == 0


@pytest.mark.parametrize("taken", ["out.png", "out.png.json"])
def test_nothing_is_overwritten(restore, master, tmp_path, bench, taken):
    (tmp_path / taken).write_text("mine")
    with pytest.raises(DestinationExists, match=taken):
        restore(master, tmp_path / "out.png")
    assert (tmp_path / taken).read_text() == "mine"
    assert bench.engine.calls == 0


def test_a_missing_picture_is_named(restore, tmp_path):
    with pytest.raises(SourceMissing, match=r"gone\.png"):
        restore(tmp_path / "gone.png", tmp_path / "out.png")


def test_a_format_that_cannot_be_written_is_a_usage_error(restore, master, tmp_path):
    result = restore(master, tmp_path / "out.bmp")
    assert result.exit_code == 2
    assert not (tmp_path / "out.bmp").exists()


def test_a_file_that_is_no_picture_leaves_nothing_behind(restore, tmp_path):
    (tmp_path / "in.jpg").write_text("no picture")
    with pytest.raises(PhotoUnsupported):
        restore(tmp_path / "in.jpg", tmp_path / "out.jpg")
    assert [path.name for path in tmp_path.glob("out*")] == []


def test_a_linked_picture_is_restored_too(restore, master, tmp_path):
    link = tmp_path / "link.png"
    link.symlink_to(master)
    restore(link, tmp_path / "out.jpg", "--quality", "80")
    with Image.open(io.BytesIO((tmp_path / "out.jpg").read_bytes())) as written:
        assert written.format == "JPEG"


def test_doctor_tells_of_engine_weights_and_detector(bench, monkeypatch):
    monkeypatch.setattr(commands, "load_engine", lambda _settings: bench.engine)
    checks = {check.name: check for check in commands.engine_checks(JobSettings())}
    assert all(check.ok for check in checks.values())
    assert "compact, 128 px" in checks["weights"].detail
    assert "stub" in checks["detector"].detail


def test_doctor_says_why_the_engine_cannot_be_built(monkeypatch):
    def broken(_settings):
        raise CheckpointCorrupt("it is gone")

    monkeypatch.setattr(commands, "load_engine", broken)
    last = list(commands.engine_checks(JobSettings()))[-1]
    assert not last.ok
    assert "weights.corrupt" in last.detail


def test_doctor_names_a_setting_that_makes_no_sense(monkeypatch):
    monkeypatch.setenv("GPEN_LANES", "none")
    (only,) = commands.engine_checks(JobSettings())
    assert not only.ok
    assert "GPEN_LANES" in only.detail


def test_faces_and_areas_named_by_hand_reach_the_engine_and_the_sidecar(
    restore, master, tmp_path, bench
):
    mask = Image.new("L", (30, 40))
    mask.paste(255, (0, 0, 10, 40))
    mask.save(tmp_path / "mask.png")

    restore(
        master, tmp_path / "out.png", "--leave", "11,12.5", "--leave", "6,8",
        "--keep-mask", tmp_path / "mask.png", "--rotations", "--texture", "0.5",
    )  # fmt: skip

    treatment = bench.engine.treatments[0]
    assert treatment.faces.leave == ((11.0, 12.5), (6.0, 8.0))
    assert (treatment.faces.rotations, treatment.finish.texture) == (True, 0.5)
    assert bench.engine.protected[:, :10].all()
    assert not bench.engine.protected[:, 10:].any()
    sidecar = json.loads((tmp_path / "out.png.json").read_text())
    assert sidecar["by_hand"]["leave"] == [[11.0, 12.5], [6.0, 8.0]]
    assert len(sidecar["by_hand"]["keep_mask_sha256"]) == 64
    assert sidecar["recipe"]["rotations"] is True


@pytest.mark.parametrize(
    "point", ["11", "11,12,13", "here,there", "nan,nan", "1,inf", "29,39", "9000,3"]
)
def test_a_point_that_is_none_is_a_usage_error(restore, master, tmp_path, point):
    result = restore(master, tmp_path / "out.png", "--leave", point)

    assert result.exit_code == 2
    assert not (tmp_path / "out.png").exists()


def test_settings_that_exclude_each_other_are_a_usage_error(restore, master, tmp_path):
    result = restore(master, tmp_path / "out.png", "--compatible", "--texture", "0.5")

    assert result.exit_code == 2
