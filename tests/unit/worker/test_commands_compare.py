import gc
import io
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import typer
from PIL import Image, ImageCms
from typer.testing import CliRunner

from gpen_engine import (
    CheckpointCorrupt,
    GpenError,
    OutOfMemory,
    Restoration,
    TermsNotAccepted,
    WeightsMissing,
    WeightsNotHere,
)
from gpen_engine.faces import Detail, Face, FaceOutcome, Reason
from gpen_engine.weights import GFPGAN_1_4, find_generator, known_by_name, name_of
from jobs.errors import DestinationExists, PhotoUnsupported, SourceMissing
from jobs.recipe import Recipe
from producer import options
from tests.unit.worker.profiles import ADOBE, rgb_profile
from worker import commands_compare
from worker.codec import decode
from worker.codec.limits import Limits
from worker.commands_compare import Comparison, build_sheet
from worker.comparison import CELL_PX
from worker.settings import WorkerSettings


def face(x, y, side, score=0.97):
    """A face whose eyes are a third of its box apart."""
    box = (float(x), float(y), float(x + side), float(y + side))
    across = [x + side / 3, x + 2 * side / 3]
    eyes = ((across[0], y + side / 3), (across[1], y + side / 3))
    mouth = ((across[0], y + side * 0.7), (across[1], y + side * 0.7))
    return Face(box, (*eyes, (x + side / 2, y + side / 2), *mouth), score)


SMALL, LARGE = face(10, 10, 30), face(60, 40, 60)


class Painter:
    """Paints every face it is given in one grey, or raises what it was told to."""

    def __init__(self, name, level, outcomes=None, error=None, sha256="a" * 64):
        self.identity = SimpleNamespace(
            weights=name, weights_sha256=sha256, size=512, device="cpu", precision="fp32"
        )
        self.level, self.error, self.treatments = level, error, []
        self.outcomes = outcomes or [
            FaceOutcome(one, restored=True, region=(0, 0, 9, 9)) for one in (SMALL, LARGE)
        ]

    def restore(self, image, treatment, *, colour):
        self.treatments.append(treatment)
        self.colour = colour
        if self.error:
            raise self.error
        result = image.copy()
        for outcome in self.outcomes:
            if outcome.restored:
                x0, y0, x1, y1 = (int(value) for value in outcome.face.box)
                result[y0:y1, x0:x1] = self.level
        return Restoration(result, tuple(self.outcomes), {})


@pytest.fixture
def engines(monkeypatch):
    """What `--restorers` can name: a restorer, or the error that loading it ends in."""
    known = {}

    def load(settings):
        found = known[settings.weights]
        if isinstance(found, Exception):
            raise found
        return found() if isinstance(found, type) else found

    def find(name, *, folder):
        ours = name in known and known_by_name(name) is None
        return (Path(name), None) if ours else find_generator(name, folder=folder)

    monkeypatch.setattr(commands_compare, "load_engine", load)
    monkeypatch.setattr(commands_compare, "find_generator", find)
    return known


@pytest.fixture
def compare(engines, tmp_path, monkeypatch):
    """The command, with all engines unless it names some; what it raises comes out."""
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.callback()(lambda: None)
    commands_compare.register(app, options.with_recipe)

    def call(*arguments):
        if engines and "--restorers" not in arguments:
            arguments = (*arguments, "--restorers", ",".join(engines))
        result = CliRunner().invoke(app, ["compare", *map(str, arguments)])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


def photograph(mode="RGB", **given):
    pixels = np.full((120, 160) if mode == "L" else (120, 160, 3), 200, np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels, mode=None).save(buffer, "PNG", **given)
    return buffer.getvalue()


@pytest.fixture
def master(tmp_path):
    folder = tmp_path / "masters"
    folder.mkdir()
    path = folder / "wedding.png"
    path.write_bytes(photograph())
    return path


def gathered(engines, data=None, *, limit=8, whole=False, recipe=None):
    pages = decode(data or photograph(), limits=Limits(10**6)).pages
    comparison = Comparison(pages, recipe or Recipe(), limit=limit, whole=whole)
    for name in engines:
        comparison.add(name, WorkerSettings())
    return comparison, build_sheet(comparison, "wedding.png")


def grey(cell):
    """The level in the middle of a cell."""
    return cell.picture.getpixel((cell.picture.width // 2, cell.picture.height // 2))[0]


def test_each_face_stands_beside_its_restorations_the_largest_first(engines):
    engines |= {"one": Painter("one", 10), "two": Painter("two", 90)}
    _, sheet = gathered(engines)
    assert [column.name for column in sheet.columns] == ["original", "one", "two"]
    assert [[grey(cell) for cell in row.cells] for row in sheet.rows] == [[200, 10, 90]] * 2
    assert [row.label for row in sheet.rows] == [
        "20 px between the eyes · score 0.97 · shown at 400%",
        "10 px between the eyes · score 0.97 · shown at 800%",
    ]
    assert sheet.subtitle == "2 faces · strength 1.0"


def test_restorers_are_told_what_the_samples_mean(engines):
    engines["one"] = Painter("one", 10)
    gathered(engines)
    assert engines["one"].colour is None
    gathered(engines, photograph(icc_profile=rgb_profile(ADOBE, gamma=2.2)))
    assert engines["one"].colour is not None


def test_weights_are_labelled_with_hash_size_and_terms(engines):
    engines["gfpgan-1.4"] = Painter("gfpgan-1.4", 10, sha256=GFPGAN_1_4.sha256)
    engines["my/mine.pth"] = Painter(name_of("a" * 64), 10)
    _, sheet = gathered(engines)
    notes = ("sha256 e2cd4703ab14f4d0", "512 px · fp32 · cpu")
    assert sheet.columns[1].notes == notes
    assert [column.name for column in sheet.columns[1:]] == ["gfpgan-1.4", "mine.pth"]
    assert sheet.footer == (f"Terms of gfpgan-1.4: {GFPGAN_1_4.terms}",)


def test_the_command_writes_a_sheet_beside_no_master(compare, engines, master, tmp_path):
    engines |= {"one": Painter("one", 10), "two": Painter("two", 90)}
    before = master.read_bytes()
    result = compare(master, "--restorers", "one, two,one,")
    assert result.output == "wedding-compared.png: 2 faces by one, two\n"
    with Image.open(tmp_path / "wedding-compared.png") as sheet:
        assert (sheet.format, sheet.mode) == ("PNG", "RGB")
        assert sheet.width > 3 * CELL_PX
        assert sheet.height > 2 * CELL_PX
    assert [path.name for path in master.parent.iterdir()] == ["wedding.png"]
    assert master.read_bytes() == before
    assert len(engines["one"].treatments) == 1


def test_the_settings_of_a_recipe_reach_every_restorer_and_the_sheet(compare, engines, master):
    engines["one"] = Painter("one", 10)
    compare(master, "--strength", "0.5", "--texture", "0.25")
    (treatment,) = engines["one"].treatments
    assert (treatment.finish.strength, treatment.finish.texture) == (0.5, 0.25)
    recipe = Recipe(strength=0.5, min_score=0.8, output="png")
    _, sheet = gathered(engines, recipe=recipe)
    assert sheet.subtitle == "2 faces · strength 0.5 · min score 0.8"


def test_what_shows_on_no_face_is_no_option(compare, engines, master):
    engines["one"] = Painter("one", 10)
    assert compare(master, "--background-scale", "2").exit_code == 2


def test_a_restorer_that_cannot_be_used_is_named_and_the_others_go_on(
    compare, engines, master, tmp_path
):
    engines |= {
        "locked": TermsNotAccepted("ask its authors"),
        "one": Painter("one", 10),
        "fat": Painter("fat", 10, error=OutOfMemory("no room for one face")),
        "bad": Painter("bad", 10, error=ZeroDivisionError("in a plug-in")),
    }
    result = compare(master, "--out", tmp_path / "sheet.png")
    assert result.output.splitlines() == [
        "locked is left out: ask its authors [weights.terms_not_accepted]",
        "fat is left out: no room for one face [device.out_of_memory]",
        "bad is left out: it failed with ZeroDivisionError('in a plug-in') [engine.error]",
        f"{tmp_path / 'sheet.png'}: 2 faces by one",
    ]
    _, sheet = gathered(engines)
    assert sheet.footer == (
        "locked is left out: ask its authors",
        "fat is left out: no room for one face",
        "bad is left out: it failed with ZeroDivisionError('in a plug-in')",
    )
    assert [column.name for column in sheet.columns] == ["original", "one"]


def test_when_none_can_be_used_the_first_ones_error_is_raised(compare, engines, master, tmp_path):
    engines |= {"gone": CheckpointCorrupt("not here"), "locked": TermsNotAccepted("ask")}
    with pytest.raises(CheckpointCorrupt, match="not here"):
        compare(master)
    assert not (tmp_path / "wedding-compared.png").exists()


def test_a_name_that_nobody_knows_is_refused_before_anything_is_restored(
    compare, engines, master, tmp_path
):
    engines["one"] = Painter("one", 10)
    with pytest.raises(WeightsMissing, match="bogus"):
        compare(master, "--restorers", "one,bogus")
    assert engines["one"].treatments == []
    assert not (tmp_path / "wedding-compared.png").exists()


def test_weights_that_are_known_and_not_here_are_left_out(compare, engines, master, monkeypatch):
    monkeypatch.setenv("GPEN_WEIGHTS_DIR", str(master.parent))
    engines |= {"one": Painter("one", 10), "gpen-bfr-512": WeightsNotHere("fetch it")}
    result = compare(master)
    assert result.output.splitlines()[0] == "gpen-bfr-512 is left out: fetch it [weights.not_here]"
    assert result.exit_code == 0


def test_one_network_at_a_time_is_in_memory(engines):
    alive = []

    class Network(Painter):
        def __init__(self):
            gc.collect()
            assert not [ref for ref in alive if ref() is not None]
            super().__init__("one", 10, error=GpenError("too bad") if len(alive) == 1 else None)
            self.itself = self
            alive.append(weakref.ref(self))

    engines |= dict.fromkeys(["first", "failing", "third"], Network)
    comparison, _ = gathered(engines)
    assert [len(comparison.tried), list(comparison.failed)] == [2, ["failing"]]


def test_the_largest_faces_are_shown_and_the_rest_counted(compare, engines, master):
    engines["one"] = Painter("one", 10)
    result = compare(master, "--faces", "1")
    assert "the largest 1 of 2 faces by one" in result.output


def test_what_the_detector_took_for_a_face_by_mistake_is_not_shown(engines):
    outcomes = [
        FaceOutcome(LARGE, restored=True, region=(0, 0, 9, 9)),
        FaceOutcome(face(70, 50, 10), restored=False, reason=Reason.NESTED),
        FaceOutcome(face(0, 90, 20, 0.75), restored=False, reason=Reason.LOW_SCORE),
    ]
    engines["one"] = Painter("one", 10, outcomes)
    _, sheet = gathered(engines)
    assert len(sheet.rows) == 1
    assert sheet.subtitle.startswith("1 face ·")


def test_under_a_face_it_is_said_what_became_of_it(engines):
    region = (0, 0, 9, 9)
    nudged = face(60.2, 39.9, 60)
    engines |= {
        "plain": Painter("plain", 10),
        "telling": Painter(
            "telling",
            10,
            [
                FaceOutcome(
                    nudged,
                    restored=True,
                    region=region,
                    detail=Detail.PHOTOGRAPH,
                    redone_in_float32=True,
                ),
                FaceOutcome(SMALL, restored=False, reason=Reason.TOO_SMALL),
            ],
        ),
        "blind": Painter("blind", 10, [FaceOutcome(SMALL, restored=True, region=region)]),
    }
    _, sheet = gathered(engines)
    notes = [[cell.note for cell in row.cells] for row in sheet.rows]
    assert notes == [
        ["", "", "the finest detail is the photograph's; redone in float32", "not found"],
        ["", "", "left alone: too_small", ""],
    ]


def test_whole_pages_are_shown_on_demand(engines):
    engines["one"] = Painter("one", 10)
    buffer = io.BytesIO()
    pages = [np.full((120, 160, 3), level, np.uint8) for level in (200, 150)]
    with tifffile.TiffWriter(buffer) as file:
        for page in pages:
            file.write(page, photometric="rgb")
    _, sheet = gathered(engines, buffer.getvalue(), whole=True, limit=2)
    assert [row.label for row in sheet.rows] == [
        "page 1 · the whole picture · 160 by 120 px · shown at 240%",
        "page 2 · the whole picture · 160 by 120 px · shown at 240%",
        "page 1 · 20 px between the eyes · score 0.97 · shown at 400%",
        "page 2 · 20 px between the eyes · score 0.97 · shown at 400%",
    ]
    for shown in sheet.rows[1].cells:
        assert shown.picture.getpixel((2, 2)) == (150, 150, 150)
    assert sheet.rows[0].cells[0].picture.size == (CELL_PX, CELL_PX * 3 // 4)


def test_a_picture_without_faces_is_said_so_and_makes_no_sheet(compare, engines, master, tmp_path):
    engines["one"] = Painter(
        "one", 10, [FaceOutcome(SMALL, restored=False, reason=Reason.LOW_SCORE)]
    )
    result = compare(master)
    assert result.exit_code == 0
    assert "no faces to compare" in result.output
    assert not (tmp_path / "wedding-compared.png").exists()


def test_nothing_is_overwritten(compare, engines, master, tmp_path):
    engines["one"] = Painter("one", 10)
    (tmp_path / "sheet.png").write_text("mine")
    with pytest.raises(DestinationExists, match=r"sheet\.png exists"):
        compare(master, "--out", tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").read_text() == "mine"
    assert not engines["one"].treatments


def test_a_picture_that_is_missing_or_none_is_named(compare, engines, tmp_path):
    engines["one"] = Painter("one", 10)
    with pytest.raises(SourceMissing, match=r"gone\.png"):
        compare(tmp_path / "gone.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(PhotoUnsupported):
        compare(tmp_path / "text.png")


@pytest.mark.parametrize(
    "arguments", [["--restorers", " , "], ["--restorers", "one", "--out", "sheet.jpg"], []]
)
def test_a_wrong_use_is_answered_as_one(compare, master, arguments):
    assert compare(master, *arguments).exit_code == 2


@pytest.mark.parametrize(("mode", "kept"), [("RGB", True), ("L", False)])
def test_colours_mean_on_the_sheet_what_they_mean_in_the_photograph(
    compare, engines, master, tmp_path, mode, kept
):
    engines["one"] = Painter("one", 10)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    master.write_bytes(photograph(mode, icc_profile=profile))
    compare(master)
    with Image.open(tmp_path / "wedding-compared.png") as sheet:
        assert (sheet.info.get("icc_profile") == profile) is kept
