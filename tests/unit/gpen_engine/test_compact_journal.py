"""What a training of gpen-compact tells of itself, and the curves that are drawn from it."""

import csv
import json
from importlib.metadata import version

import pytest
from PIL import Image

from gpen_engine.compact import curves, journal
from gpen_engine.compact.journal import note_scores, note_start
from gpen_engine.compact.scores import HEADLINE, Quality, Row

BICUBIC = Quality(psnr=23, ssim=0.7, sharpness=0.2, checkerboard=1, cast=0.3, distance=0.5)
RESTORED = Quality(psnr=24, ssim=0.75, sharpness=0.7, checkerboard=1, cast=0.3, distance=0.4)
ROW = Row(HEADLINE, 20, BICUBIC, BICUBIC, RESTORED, better=1.0, farther=0.05)
OLD = """step,samples,loss,samples_per_second,psnr,input_psnr,ssim,input_ssim
100,600,0.10,9.0,23.1,23.0,0.70,0.69
1000,6000,0.05,9.0,24.2,23.0,0.75,0.69
"""


def rows(log):
    return list(csv.DictReader(log.read_text().splitlines()))


# Starts.


def test_two_starts_with_other_constants_are_told_apart(tmp_path, monkeypatch):
    for name in ("losses", "optimise"):
        (tmp_path / f"{name}.py").write_text("_RATE = 1")
    monkeypatch.setattr(journal, "__file__", str(tmp_path / "journal.py"))

    note_start(tmp_path, 0, {"size": 32})
    (tmp_path / "losses.py").write_text("_RATE = 2")
    note_start(tmp_path, 7, {"size": 32})

    first, second = map(json.loads, (tmp_path / "plans.jsonl").read_text().splitlines())
    assert (first["step"], second["step"], first["size"]) == (0, 7, 32)
    assert first["version"] == version("gpen-archive")
    changed = {
        name for name in first["sources"] if first["sources"][name] != second["sources"][name]
    }
    assert changed == {"losses"}
    assert first["sources"].keys() == {"losses", "optimise"}


# Scores.


def test_a_scoring_is_logged_with_sharpness_and_likeness(tmp_path):
    note_scores(tmp_path, step=500, samples=3000, loss=0.5, rate=7.25, row=ROW)

    (row,) = rows(tmp_path / "log.csv")
    assert (row["step"], row["samples"], row["loss"]) == ("500", "3000", "0.5000")
    assert (row["psnr"], row["input_psnr"]) == ("24.0000", "23.0000")
    assert (row["ssim"], row["input_ssim"]) == ("0.7500", "0.7000")
    assert (row["gradient_energy"], row["identity_ratio"]) == ("0.7000", "0.8000")
    assert row["moved_away"] == "0.0500"


def test_a_log_goes_on_below_its_last_row(tmp_path):
    for step in (1, 2):
        note_scores(tmp_path, step=step, samples=6 * step, loss=0.5, rate=7.0, row=ROW)

    assert [row["step"] for row in rows(tmp_path / "log.csv")] == ["1", "2"]


def test_a_log_of_fewer_columns_is_kept_under_another_name(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text(OLD)

    for step in (1500, 2000):
        note_scores(tmp_path, step=step, samples=6 * step, loss=0.5, rate=7.0, row=ROW)

    assert (tmp_path / "log-before-01500.csv").read_text() == OLD
    assert [row["step"] for row in rows(log)] == ["1500", "2000"]
    assert len(list(tmp_path.glob("*.csv"))) == 2


# Curves.


def test_a_run_s_curve_is_what_it_gained_by_faces_seen(tmp_path):
    log = tmp_path / "first try.csv"
    log.write_text(OLD)

    run = curves.read_run(log)

    assert (run.name, run.samples) == ("first try", (600, 6000))
    assert run.gains["psnr"] == pytest.approx((0.1, 1.2))
    assert run.gains["ssim"] == pytest.approx((0.01, 0.06))


def test_a_log_with_sharpness_and_likeness_has_the_same_curves(tmp_path):
    note_scores(tmp_path, step=500, samples=3000, loss=0.5, rate=7.0, row=ROW)

    run = curves.read_run(tmp_path / "log.csv")

    assert run.samples == (3000,)
    assert run.gains == {"psnr": pytest.approx((1.0,)), "ssim": pytest.approx((0.05,))}


def test_all_attempts_are_drawn_in_one_picture(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "one.csv").write_text(OLD)
    note_scores(tmp_path / "runs", step=500, samples=3000, loss=0.5, rate=7.0, row=ROW)

    code = curves.main([str(tmp_path)])

    assert code == 0
    with Image.open(tmp_path / "curves.png") as drawn:
        assert drawn.width > 2 * drawn.height


def test_a_folder_without_logs_is_told_in_a_sentence(tmp_path, capsys):
    code = curves.main([str(tmp_path)])

    assert code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{tmp_path}/runs has no")
