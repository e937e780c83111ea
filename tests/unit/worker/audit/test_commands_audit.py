import json
import re

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from gpen_engine.registry import COMPACT
from jobs.errors import (
    DestinationUnusable,
    OutputDamaged,
    OutputNotReproducible,
    PhotoMissing,
    SourceMissing,
)
from producer.exits import code_for_error
from producer.options import with_recipe
from tests.unit.worker.audit.archive import RESTORED, PageEngine, found, scan
from worker import commands, commands_audit
from worker.exits import NOT_ALL_FINE


@pytest.fixture
def engine():
    return PageEngine([[RESTORED]])


@pytest.fixture
def call(engine, monkeypatch):
    """`restore`, `verify` and `reproduce` with a stub engine; what they raise comes out."""
    loaded = []
    for module in (commands, commands_audit):
        monkeypatch.setattr(
            module, "load_engine", lambda settings: loaded.append(settings) or engine
        )
    app = typer.Typer()
    commands.register(app, with_recipe)
    commands_audit.register(app, with_recipe)

    def call(*arguments):
        result = CliRunner().invoke(app, list(map(str, arguments)))
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    call.loaded = loaded
    return call


@pytest.fixture(autouse=True)
def shared(monkeypatch):
    """Numbers of threads that were asked for; there are 2 before."""
    asked = []
    monkeypatch.setattr(commands_audit, "use_threads", asked.append)
    monkeypatch.setattr(commands_audit, "threads_of", lambda _device: asked[-1] if asked else 2)
    return asked


@pytest.fixture
def places(tmp_path, call):
    """A folder with a master and one with its derivative."""
    masters, derivatives = tmp_path / "in", tmp_path / "out"
    masters.mkdir()
    derivatives.mkdir()
    (masters / "a.png").write_bytes(scan())
    call("restore", masters / "a.png", derivatives / "a.restored.png")
    return masters, derivatives


def damage(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def test_a_whole_archive_is_fine(call, places):
    masters, derivatives = places
    result = call("verify", derivatives, "--masters", masters)
    assert result.exit_code == 0
    assert "1 photo: all fine." in result.output


def test_what_was_not_checked_is_said(call, places):
    result = call("verify", places[1])
    assert result.exit_code == 0
    assert "nothing wrong was found; not all checked: master, pixels" in result.output
    assert "all fine" not in result.output


def test_findings_are_named_and_end_with_their_exit_code(call, places):
    masters, derivatives = places
    damage(masters / "a.png")
    sidecar = derivatives / "a.restored.png.json"
    sidecar.write_bytes(sidecar.read_bytes().replace(b'"attempt": 1', b'"attempt": 3'))
    result = call("verify", derivatives, "--masters", masters)
    assert result.exit_code == NOT_ALL_FINE == 3
    assert re.search(r"a\.restored\.png +seal +the seal is broken", result.output)
    assert re.search(r"a\.restored\.png +master +the master has other bytes", result.output)
    assert "1 photo: 1 with findings." in result.output


def test_a_derivative_for_its_folder_is_refused_saying_what_is_wanted(call, places):
    _, derivatives = places
    with pytest.raises(SourceMissing, match="give the folder"):
        call("verify", derivatives / "a.restored.png")


def test_nothing_is_written(call, places):
    masters, derivatives = places
    before = {path: path.stat().st_mtime_ns for path in derivatives.parent.rglob("*")}
    call("verify", derivatives, "--masters", masters)
    call("reproduce", derivatives / "a.restored.png.json", "--masters", masters, "--weights", "x")
    assert before == {path: path.stat().st_mtime_ns for path in derivatives.parent.rglob("*")}


def test_programs_get_json(call, places):
    masters, derivatives = places
    damage(masters / "a.png")
    result = call("verify", derivatives, "--masters", masters, "--json", "--quick")
    told = json.loads(result.output)
    assert result.exit_code == NOT_ALL_FINE
    assert (told["schema_version"], told["photos"]) == (1, 1)
    assert told["checks"]["seal"] == {
        "fine": 1, "wrong": 0, "not checked": 0, "not applicable": 0,
    }  # fmt: skip
    assert told["checks"]["pixels"]["not checked"] == 1
    (finding,) = told["findings"]
    assert (finding["derivative"], finding["check"]) == ("a.restored.png", "master")


@pytest.mark.parametrize("kind", ["empty", "missing", "masters"])
def test_a_place_with_nothing_to_verify_is_never_fine(call, places, tmp_path, kind):
    (tmp_path / "empty").mkdir()
    arguments = [places[1], "--masters", tmp_path / "missing"] if kind == "masters" else []
    with pytest.raises(SourceMissing) as caught:
        call("verify", *(arguments or [tmp_path / kind]))
    assert code_for_error(caught.value.code) == 2


def test_a_name_cannot_steer_the_terminal(call, places):
    _, derivatives = places
    for suffix in ("", ".json"):
        (derivatives / f"a.restored.png{suffix}").rename(
            derivatives / f"\x1b[31mred.restored.png{suffix}"
        )
    result = call("verify", derivatives)
    assert result.exit_code == NOT_ALL_FINE
    assert "\x1b" not in result.output


def reproduce(call, places, *more):
    masters, derivatives = places
    sidecar = derivatives / "a.restored.png.json"
    return call("reproduce", sidecar, "--masters", masters, "--weights", "mine.pth", *more)


def test_the_same_bytes_are_identical(call, places):
    result = reproduce(call, places)
    assert result.exit_code == 0
    assert "a.restored.png: identical, byte for byte" in result.output


def test_a_damaged_derivative_is_told_though_its_like_can_be_made_again(call, places):
    derivative = places[1] / "a.restored.png"
    data = bytearray(derivative.read_bytes())
    data[len(data) // 2] ^= 1
    derivative.write_bytes(data)
    result = reproduce(call, places)
    assert result.exit_code == NOT_ALL_FINE
    assert "a.restored.png itself is gone or damaged" in result.output


def test_other_bytes_differ_and_then_and_now_are_told(call, places, engine):
    engine.pages = [[found((4, 6, 20, 23))]]
    result = reproduce(call, places)
    assert result.exit_code == NOT_ALL_FINE
    assert "a.restored.png: differs" in result.output
    assert re.search(r"then: gpen-archive \S+ on cpu in fp32", result.output)
    assert re.search(r"now: +gpen-archive \S+ on cpu in fp32", result.output)
    assert re.search(r"\d+ of 3600 samples differ, by \d+ of 255", result.output)


def test_a_derivative_that_is_gone_is_made_again_without_comparing_samples(call, places, engine):
    (places[1] / "a.restored.png").unlink()
    result = reproduce(call, places)
    assert result.exit_code == NOT_ALL_FINE
    assert "identical, byte for byte" in result.output
    assert "a.restored.png itself is gone or damaged" in result.output
    engine.pages = [[]]
    result = reproduce(call, places)
    assert "gone or damaged" in result.output
    (places[1] / "a.restored.png").write_bytes(b"rubbish")
    assert "gone or damaged" in reproduce(call, places).output


def test_what_comes_out_is_kept_when_asked_for_and_nothing_is_overwritten(call, places, tmp_path):
    kept = tmp_path / "kept" / "again.png"
    reproduce(call, places, "--output", kept)
    assert kept.read_bytes() == (places[1] / "a.restored.png").read_bytes()
    with pytest.raises(DestinationUnusable, match=r"again\.png"):
        reproduce(call, places, "--output", kept)


def test_the_engine_is_asked_for_as_recorded_and_without_kept_faces(
    call, places, tmp_path, monkeypatch
):
    monkeypatch.setenv("GPEN_FACE_CACHE", str(tmp_path / "faces"))
    monkeypatch.setenv("GPEN_PRECISION", "bf16")
    reproduce(call, places, "--device", "cpu")
    settings = call.loaded[-1]
    assert (settings.weights, settings.device, settings.precision) == ("mine.pth", "cpu", "fp32")
    assert settings.face_cache is None


def test_the_work_is_shared_among_as_many_threads_as_then(call, places, shared):
    result = reproduce(call, places, "--device", "cpu")
    assert shared == [4]
    assert "Threads: 4, as recorded; here it would be 2." in result.stderr
    reproduce(call, places, "--device", "cpu")
    assert shared == [4]


def test_the_likely_reason_for_other_bytes_is_told(call, places, engine, monkeypatch):
    engine.pages = [[]]
    assert "reason" not in reproduce(call, places).output
    record = commands_audit.read_sealed((places[1] / "a.restored.png.json").read_bytes())
    old = record.environment.model_copy(update={"versions": {"torch": "1.0"}})
    for environment, said in (
        (old, "the likely reason: torch 1.0 then, 2."),
        (None, "threads and versions weren't recorded then"),
    ):
        other = record.model_copy(update={"environment": environment})
        monkeypatch.setattr(commands_audit, "read_sealed", lambda _data, other=other: other)
        assert said in reproduce(call, places).output


def test_another_class_of_device_has_its_own_precision(call, places, monkeypatch):
    record = commands_audit.read_sealed((places[1] / "a.restored.png.json").read_bytes())
    elsewhere = record.model_copy(update={"device": "cuda:0 (NVIDIA H200)", "precision": "fp16"})
    monkeypatch.setattr(commands_audit, "read_sealed", lambda _data: elsewhere)
    reproduce(call, places, "--device", "cpu")
    assert call.loaded[-1].precision == "auto"


def test_known_weights_need_no_name(call, places, monkeypatch):
    record = commands_audit.read_sealed((places[1] / "a.restored.png.json").read_bytes())
    compact = record.engine.model_copy(update={"weights_sha256": COMPACT.sha256})
    monkeypatch.setattr(
        commands_audit, "read_sealed", lambda _data: record.model_copy(update={"engine": compact})
    )
    with pytest.raises(OutputNotReproducible, match=COMPACT.sha256):  # the stub has others
        call("reproduce", places[1] / "a.restored.png.json", "--masters", places[0])
    assert call.loaded[-1].weights == "compact"


@pytest.mark.parametrize(
    ("change", "error", "code"),
    [
        ({"in/a.png": None}, PhotoMissing, 4),
        ({"in/a.png": scan(seed=3)}, OutputNotReproducible, 4),
        ({"out/a.restored.png.json": b"{}"}, OutputDamaged, 4),
        ({"out/a.restored.png.json": None}, SourceMissing, 2),
    ],
)
def test_what_makes_it_impossible_has_a_code(call, places, tmp_path, change, error, code):
    for name, content in change.items():
        (tmp_path / name).unlink()
        if content is not None:
            (tmp_path / name).write_bytes(content)
    with pytest.raises(error) as caught:
        reproduce(call, places)
    assert code_for_error(caught.value.code) == code


def test_a_photo_with_a_mask_is_verified_but_not_reproduced(call, places, tmp_path):
    masters, derivatives = places
    mask = Image.fromarray(np.zeros((40, 30), np.uint8))
    mask.save(tmp_path / "mask.png")
    call(
        "restore", masters / "a.png", derivatives / "b.restored.png",
        "--keep-mask", tmp_path / "mask.png", "--leave", "11,12",
    )  # fmt: skip
    assert call("verify", derivatives, "--masters", masters).exit_code == 0
    with pytest.raises(OutputNotReproducible, match="mask"):
        call(
            "reproduce", derivatives / "b.restored.png.json",
            "--masters", masters, "--weights", "x",
        )  # fmt: skip


def test_a_sidecar_in_the_folder_at_hand_needs_no_path(call, places, monkeypatch):
    monkeypatch.chdir(places[1])
    result = call("reproduce", "a.restored.png.json", "--masters", places[0], "--weights", "x")
    assert result.exit_code == 0


def test_masters_in_another_folder_are_suspected_once(call, places, tmp_path):
    masters, derivatives = places
    (tmp_path / "elsewhere").mkdir()
    hint = "does --masters name the job's own source?"
    assert hint in call("verify", derivatives, "--masters", tmp_path / "elsewhere").output
    assert hint not in call("verify", derivatives, "--masters", masters).output
