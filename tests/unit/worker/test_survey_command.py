"""The command `plan`: what people and programs are told of a folder; nothing is written."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import typer
from PIL import Image
from typer.testing import CliRunner

from gpen_engine import Restoration
from jobs.errors import SourceMissing
from jobs.testing import MemoryStore
from producer.exits import ExitCode
from producer.options import with_recipe
from producer.scan import Tally, scan
from worker import commands_plan, exits
from worker.codec import PageHeader, decode
from worker.codec.limits import Limits
from worker.survey.headers import Surveyed
from worker.survey.plan import Plan, survey
from worker.survey.report import to_json


@pytest.fixture
def plan(bench, monkeypatch):
    """The command `plan` with a stub engine; what it raises comes out."""
    settings = []

    def load(given):
        settings.append(given)
        return bench.engine

    monkeypatch.setattr(commands_plan, "load_engine", load)
    app = typer.Typer()
    app.callback()(lambda: None)
    commands_plan.register(app, with_recipe)

    def call(*arguments):
        result = CliRunner().invoke(app, ["plan", *map(str, arguments)])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    call.settings = settings
    return call


def image(seed=0, size=(40, 30), kind="PNG", **options):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


def gray_tiff():
    out = io.BytesIO()
    tifffile.imwrite(out, np.zeros((60, 80), np.uint16), photometric="minisblack")
    return out.getvalue()


FILES = {
    "box 1/a.jpg": image(1, kind="JPEG", dpi=(300, 300)),
    "box 1/b.png": image(2),
    "box 1/copy of b.png": image(2),
    "box 2/c.tif": gray_tiff(),
    "box 2/notes.txt": b"notes",
    "box 2/c.restored.tif": b"ours",
}
BROKEN = {"empty.jpg": b"", "page.jpg": b"<!doctype html>", "cut.png": image(3)[:-99]}


@pytest.fixture
def source(tmp_path):
    def make(files):
        for name, data in files.items():
            path = tmp_path / "in" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return tmp_path / "in"

    return make


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def words(result):
    return " ".join(result.output.split())


def test_one_page_is_told_as_one(plan, source):
    told = words(plan(source({"a.png": FILES["box 1/b.png"]}), "--measure", 0))
    assert "readable 1 with 1 page," in told
    assert "1 pages" not in told


def test_a_sound_folder_is_told_and_ends_with_0(plan, source):
    result = plan(source(FILES), "--measure", 0)
    assert result.exit_code == 0
    told = words(result)
    for part in (
        "photos 4 in",
        "readable 4 with 4 pages",
        "passed over 1 no photo by its suffix",
        "passed over 1 delivered by an earlier run",
        "without resolution 2 pages",
        "png 2",
        "8-bit RGB 3",
        "16-bit gray 1",
        "box 1/b.png, box 1/copy of b.png",
        "expected time not measured",
    ):
        assert part in told, part


def test_what_would_fail_is_told_with_code_and_advice_and_ends_with_3(plan, source):
    result = plan(source(FILES | BROKEN), "--measure", 0)
    assert result.exit_code == exits.NOT_ALL_FINE == ExitCode.SOME_FAILED
    told = words(result)
    for part in ("photo.empty 1 empty.jpg", "photo.unsupported 1 page.jpg", "photo.truncated 1"):
        assert part in told
    assert "Copy the master again from its source" in told


def test_of_each_fault_one_message_says_what_is_wrong_or_too_large(plan, source, monkeypatch):
    monkeypatch.setenv("GPEN_MAX_MEGAPIXELS", "0.001")
    result = plan(source({"a.png": image(1), "b.png": image(2)}), "--measure", 0)
    told = words(result)
    assert "photo.too_large 2 a.png, b.png the first: " in told
    assert "GPEN_MAX_MEGAPIXELS" in told


def test_where_nothing_could_be_delivered_it_ends_with_4(plan, source, bench):
    result = plan(source(BROKEN))
    assert result.exit_code == exits.NONE_DELIVERED == ExitCode.NONE_DELIVERED
    assert bench.engine.calls == 0
    assert "expected" not in result.output


def test_a_folder_without_photos_is_no_fault(plan, source):
    assert plan(source({"notes.txt": b"notes"})).exit_code == 0


def test_a_source_that_is_not_there_is_said_so(plan, tmp_path):
    with pytest.raises(SourceMissing, match="nowhere"):
        plan(tmp_path / "nowhere")


def test_nothing_is_written(plan, source, tmp_path, monkeypatch):
    folder = source(FILES | BROKEN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GPEN_FACE_CACHE", str(tmp_path / "cache"))
    before = contents(tmp_path)
    plan(folder, "--measure", 3)
    assert contents(tmp_path) == before
    assert plan.settings[0].face_cache is None


def test_some_photos_are_restored_to_tell_the_time(plan, source, bench):
    result = plan(source(FILES), "--measure", 2, "--strength", 0.5)
    assert bench.engine.calls == 3  # the first one twice
    assert bench.engine.treatments[0].finish.strength == 0.5
    assert "measured on 2 of them" in words(result)
    assert "for 1 worker" in words(result)


def test_workers_share_the_time(plan, source, bench, monkeypatch):
    def slow(image, *_, **__):
        now[0] += 10
        return Restoration(image.copy(), (), {})

    now = [0.0]
    bench.engine.restore = slow
    monkeypatch.setattr(commands_plan, "_clock", lambda: now[0])
    content = json.loads(plan(source(FILES), "--workers", 4, "--json").output)
    assert content["expected"]["seconds"] == pytest.approx(10)
    assert content["expected"]["workers"] == 4
    assert "10 s for 4 workers" in words(plan(source(FILES), "--workers", 4))


def test_a_fault_that_only_restoring_shows_is_told_too(plan, source):
    damaged = bytearray(image(4, size=(300, 300)))
    damaged[len(damaged) // 2] ^= 1
    result = plan(source({"a.png": bytes(damaged), "b.png": image(5)}))
    assert result.exit_code == 3
    assert "photo.corrupt 1 a.png" in words(result)


def test_programs_get_every_fact_as_json(plan, source):
    content = json.loads(plan(source(FILES | BROKEN), "--measure", 0, "--json").output)
    assert content["schema_version"] == 1
    assert content["photos"]["total"] == 7
    assert content["photos"]["readable"] == 4
    assert content["photos"]["megapixels"] == pytest.approx((3 * 1200 + 4800) / 1e6, abs=1e-3)
    assert content["passed_over"] == {"ignored": 1, "ours": 1, "hidden": 0}
    assert content["formats"]["png"]["photos"] == 2
    assert content["samples"] == {"8-bit RGB": 3, "16-bit gray": 1}
    assert content["faults"] == {
        "photo.truncated": 1,
        "photo.empty": 1,
        "photo.unsupported": 1,
    }
    (group,) = content["duplicates"]
    assert group["keys"] == ["box 1/b.png", "box 1/copy of b.png"]
    assert content["expected"]["output_bytes"] > 0
    assert content["expected"]["rate"] is None
    files = {file["key"]: file for file in content["files"]}
    assert files["empty.jpg"]["fault"]["code"] == "photo.empty"
    (page,) = files["box 1/a.jpg"]["pages"]
    assert (page["width"], page["height"], page["bits"], page["channels"]) == (40, 30, 8, 3)
    assert (page["dpi"], page["icc"], page["orientation"]) == ([300.0, 300.0], False, 1)
    assert files["box 2/c.tif"]["pages"][0]["compression"] == "none"


def test_what_the_output_cannot_hold_is_told_before_the_run(plan, source):
    pages = io.BytesIO()
    tifffile.imwrite(pages, np.zeros((3, 40, 50), np.uint8), photometric="minisblack")
    folder = source({"a.tif": pages.getvalue()})
    assert plan(folder, "--measure", 0).exit_code == 0
    assert plan(folder, "--measure", 0, "--output", "png").exit_code == 4


def test_a_name_cannot_steer_the_terminal(plan, source):
    folder = source({"evil\x1b[2J.txt": b"", "a.png": image(), "b.png": image()})
    (folder / "a.png").rename(folder / "a\x9b2J.png")
    assert "\x9b" not in plan(folder, "--measure", 0).output


# The plan itself


def make_plan(files):
    return survey(MemoryStore(files), recipe=commands_plan.Recipe(), limits=Limits(10**8))


def test_the_photos_are_those_that_a_run_would_take():
    files = dict.fromkeys((".x.jpg", "a.heic", "b.txt", "d.JPG", "e/.f/g.png"), b"")
    made, tally = make_plan(files), Tally()
    assert [photo.key for photo in made.photos] == [
        candidate.key for candidate in scan(MemoryStore(files), tally)
    ]
    assert made.passed_over["ignored"] == tally.ignored


def test_a_name_that_no_ledger_can_hold_is_a_fault():
    class OpenStore(MemoryStore):
        def list(self):
            yield self.head("a.jpg")
            yield type(self.head("a.jpg"))("b\\c.jpg", 5)

    made = survey(
        OpenStore({"a.jpg": image(kind="JPEG")}),
        recipe=commands_plan.Recipe(),
        limits=Limits(10**8),
    )
    assert [photo.fault and photo.fault.code for photo in made.photos] == ["key.unsafe", None]


def test_expected_bytes_follow_what_the_samples_took(bench):
    files = {f"{index}.png": image(index) for index in range(6)}
    store = MemoryStore(files)
    made = survey(store, recipe=commands_plan.Recipe(), limits=Limits(10**8))
    before = made.output_bytes
    sample = commands_plan.measure(
        made.photos[:2],
        store=store,
        engine=bench.engine,
        recipe=made.recipe.model_copy(update={"weights": "a" * 64}),
        decode=decode,
        limits=Limits(10**8),
    )
    made.take_in(sample)
    took = sum(one.output_bytes for one in sample.samples)
    expected = sum(photo.output_bytes for photo in made.photos[:2])
    assert made.output_bytes == pytest.approx(before * took / expected, abs=1)


def test_an_empty_plan_can_be_told():
    assert json.loads(to_json(Plan("nowhere", commands_plan.Recipe(), 1)))["photos"]["total"] == 0


def test_the_page_tells_every_part_of_the_json():
    page = (Path(__file__).parents[3] / "docs" / "plan.md").read_text(encoding="utf-8")
    content = json.loads(to_json(make_plan({"a.png": image(), "b.jpg": b""})))
    for name in (*content, *content["expected"], *content["files"][0]["pages"][0]):
        assert f"`{name}`" in page, name


def test_a_photo_without_a_header_has_no_pixels():
    assert Surveyed("a.jpg", 5).megapixels == 0.0
    assert PageHeader(30, 40, 8, 3, "jpeg").pixels == 1200
