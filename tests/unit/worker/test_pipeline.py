import hashlib
import io
import json
from importlib.metadata import version

import numpy as np
import pytest
from PIL import Image

from jobs.errors import (
    OutputConflict,
    OutputDamaged,
    PhotoMissing,
    PhotoTooLarge,
    WeightsUnavailable,
)
from jobs.recipe import Recipe
from jobs.schema import Claim, Job
from tests.unit.worker.profiles import ADOBE, rgb_profile
from worker.codec import decode
from worker.codec.limits import Limits
from worker.pipeline import run
from worker.stages import Stages

REGION = (4, 6, 20, 24)


def claim_of(bench, key, *, recipe=None, attempt=1):
    job = bench.job if recipe is None else Job("album", "s", "d", recipe)
    return Claim(photo_id=1, key=key, token="t", attempt=attempt, worker="w1", job=job)


def work(bench, claim, *, limits=None, stages=None):
    return run(
        claim,
        masters=bench.masters,
        derivatives=bench.derivatives,
        engine=bench.engine,
        decode=decode,
        limits=limits or Limits(1_000_000),
        stages=stages or Stages(),
    )


def pixels_of(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def test_a_photo_is_delivered_beside_a_sidecar_and_its_master_is_untouched(bench, picture):
    bench.masters.objects["box 1/a.png"] = picture
    outcome = work(bench, claim_of(bench, "box 1/a.png"))
    assert outcome.derivative_key == "box 1/a.restored.png"
    assert outcome.sidecar_key == "box 1/a.restored.png.json"
    assert (outcome.faces, outcome.faces_restored) == (1, 1)
    assert set(bench.derivatives.objects) == {outcome.derivative_key, outcome.sidecar_key}
    assert bench.masters.objects == {"box 1/a.png": picture}


def test_pixels_outside_the_recorded_regions_are_those_of_the_master(bench, picture):
    bench.masters.objects["a.png"] = picture
    outcome = work(bench, claim_of(bench, "a.png"))
    before = pixels_of(picture)
    after = pixels_of(bench.derivatives.objects[outcome.derivative_key])
    sidecar = json.loads(bench.derivatives.objects[outcome.sidecar_key])
    changed = (before != after).any(axis=2)
    x0, y0, x1, y1 = sidecar["faces"][0]["region"]
    assert changed[y0:y1, x0:x1].any()
    changed[y0:y1, x0:x1] = False
    assert not changed.any()


def test_the_sidecar_tells_master_recipe_engine_and_every_face(bench, picture):
    bench.masters.objects["a.png"] = picture
    outcome = work(bench, claim_of(bench, "a.png"))
    sidecar = json.loads(bench.derivatives.objects[outcome.sidecar_key])
    derivative = bench.derivatives.objects[outcome.derivative_key]
    assert sidecar["schema_version"] == 3
    assert sidecar["master"]["key"] == "a.png"
    assert sidecar["master"]["sha256"] == hashlib.sha256(picture).hexdigest()
    assert sidecar["derivative"]["sha256"] == hashlib.sha256(derivative).hexdigest()
    assert sidecar["recipe"]["weights"] == "compact"
    assert sidecar["recipe_hash"] == Recipe().hash()
    assert sidecar["engine"]["weights_sha256"] == "a" * 64
    assert sidecar["engine"]["detector_sha256"] == "b" * 64
    assert (sidecar["device"], sidecar["precision"]) == ("cpu", "fp32")
    environment = sidecar["environment"]
    assert (environment["threads"], environment["instructions"]) == (4, "AVX2")
    assert environment["versions"]["torch"] == version("torch")
    assert environment["versions"].keys() >= {"numpy", "imagecodecs", "pillow", "tifffile"}
    face = sidecar["faces"][0]
    assert face["box"] == [5.0, 7.0, 19.0, 23.0]
    assert face["score"] == 0.97
    assert face["restored"] is True
    assert face["region"] == list(REGION)
    assert sidecar["engine_timings_s"] == {"detect": 0.25, "forward": 0.5}
    stages = {"fetch", "decode", "restore", "encode", "prove", "store"}
    assert set(sidecar["timings_s"]) == stages | {"total"}


def test_the_recipe_reaches_the_engine(bench, picture):
    bench.masters.objects["a.png"] = picture
    recipe = Recipe(strength=0.5, min_score=0.8, min_eye_distance_px=9, max_faces=3)
    work(bench, claim_of(bench, "a.png", recipe=recipe))
    treatment = bench.engine.treatments[0]
    assert (treatment.finish.strength, treatment.faces.min_score) == (0.5, 0.8)
    assert (treatment.faces.min_eye_distance_px, treatment.faces.max_faces) == (9, 3)


def test_work_that_was_stored_before_is_not_done_again(bench, picture):
    bench.masters.objects["a.png"] = picture
    first = work(bench, claim_of(bench, "a.png"))
    stored = dict(bench.derivatives.objects)
    second = work(bench, claim_of(bench, "a.png", attempt=2))
    assert bench.engine.calls == 1
    assert bench.derivatives.objects == stored
    assert second.derivative_key == first.derivative_key
    assert second.faces_restored == 1


def test_a_photo_whose_sidecar_was_not_reached_is_finished_by_the_next_attempt(bench, picture):
    bench.masters.objects["a.png"] = picture
    outcome = work(bench, claim_of(bench, "a.png"))
    del bench.derivatives.objects[outcome.sidecar_key]
    again = work(bench, claim_of(bench, "a.png", attempt=2))
    assert again.sidecar_key in bench.derivatives.objects


def test_another_recipe_at_the_same_destination_is_a_conflict_and_changes_nothing(bench, picture):
    bench.masters.objects["a.png"] = picture
    work(bench, claim_of(bench, "a.png"))
    stored = dict(bench.derivatives.objects)
    with pytest.raises(OutputConflict, match=r"a\.restored\.png .* with another recipe_hash$"):
        work(bench, claim_of(bench, "a.png", recipe=Recipe(strength=0.5)))
    assert bench.derivatives.objects == stored


def test_a_changed_master_at_the_same_destination_is_a_conflict(bench, picture):
    bench.masters.objects["a.png"] = picture
    work(bench, claim_of(bench, "a.png"))
    other = io.BytesIO()
    Image.new("RGB", (30, 40), "red").save(other, "PNG")
    bench.masters.objects["a.png"] = other.getvalue()
    with pytest.raises(OutputConflict):
        work(bench, claim_of(bench, "a.png"))


def test_a_rival_that_stores_first_delivers_the_photo_for_both(bench, picture):
    bench.masters.objects["a.png"] = picture
    rival = type(bench.engine)()

    class Overtaken:
        identity = bench.engine.identity

        def restore(self, image, treatment, *, protected, colour):
            run(
                claim_of(bench, "a.png", attempt=2),
                masters=bench.masters,
                derivatives=bench.derivatives,
                engine=rival,
                decode=decode,
                limits=Limits(1_000_000),
                stages=Stages(),
            )
            return bench.engine.restore(image, treatment, protected=protected)

    outcome = run(
        claim_of(bench, "a.png"),
        masters=bench.masters,
        derivatives=bench.derivatives,
        engine=Overtaken(),
        decode=decode,
        limits=Limits(1_000_000),
        stages=Stages(),
    )
    assert outcome.derivative_key == "a.restored.png"
    assert json.loads(bench.derivatives.objects[outcome.sidecar_key])["attempt"] == 2


def test_a_sidecar_whose_derivative_is_gone_is_a_conflict(bench, picture):
    bench.masters.objects["a.png"] = picture
    outcome = work(bench, claim_of(bench, "a.png"))
    del bench.derivatives.objects[outcome.derivative_key]
    with pytest.raises(OutputConflict, match="derivative it tells of"):
        work(bench, claim_of(bench, "a.png"))


def test_a_derivative_that_was_cut_is_not_taken_for_delivered(bench, picture):
    bench.masters.objects["a.png"] = picture
    outcome = work(bench, claim_of(bench, "a.png"))
    bench.derivatives.objects[outcome.derivative_key] = b"cut"
    with pytest.raises(OutputConflict, match="derivative it tells of"):
        work(bench, claim_of(bench, "a.png"))


def test_the_sidecar_of_another_photo_is_not_taken_for_this_ones(bench, picture):
    bench.masters.objects |= {"a.png": picture, "b.png": picture}
    outcome = work(bench, claim_of(bench, "b.png"))
    objects = bench.derivatives.objects
    objects["a.restored.png.json"] = objects[outcome.sidecar_key]
    with pytest.raises(OutputConflict, match=r"a\.\S+json is the sidecar of b\.restored\.png"):
        work(bench, claim_of(bench, "a.png"))


def test_a_file_with_too_many_bytes_is_never_read(bench, monkeypatch):
    bench.masters.objects["a.png"] = bytes(1001)
    monkeypatch.setattr(bench.masters, "get", None)
    with pytest.raises(PhotoTooLarge, match="bytes"):
        work(bench, claim_of(bench, "a.png"), limits=Limits(max_bytes=1000))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda _sidecar: b"[1, 2", "is no JSON"),
        (lambda sidecar: sidecar.replace(b'"attempt": 1', b'"attempt": 5'), "is broken"),
    ],
)
def test_a_damaged_sidecar_is_called_so_and_not_believed(bench, picture, change, what):
    bench.masters.objects["a.png"] = picture
    outcome = work(bench, claim_of(bench, "a.png"))
    objects = bench.derivatives.objects
    objects[outcome.sidecar_key] = change(objects[outcome.sidecar_key])
    with pytest.raises(OutputDamaged, match=rf"a\.restored\.png\.json .*{what}") as caught:
        work(bench, claim_of(bench, "a.png"))
    assert "remove it and a.restored.png to have both made again" in str(caught.value)


def test_a_derivative_without_sidecar_that_is_made_otherwise_now_is_named(bench, picture):
    bench.masters.objects["a.png"] = picture
    outcome = work(bench, claim_of(bench, "a.png"))
    del bench.derivatives.objects[outcome.sidecar_key]
    orphan = bench.derivatives.objects[outcome.derivative_key] + b"\0"
    bench.derivatives.objects[outcome.derivative_key] = orphan
    with pytest.raises(OutputConflict, match=r"a\.restored\.png in \S+ has no sidecar") as caught:
        work(bench, claim_of(bench, "a.png", attempt=2))
    assert "threads" in str(caught.value)
    assert "remove it, then retry" in str(caught.value)
    assert bench.derivatives.objects == {outcome.derivative_key: orphan}


def test_a_missing_master_is_named(bench):
    with pytest.raises(PhotoMissing, match=r"gone\.png"):
        work(bench, claim_of(bench, "gone.png"))


def test_a_picture_over_the_limit_is_refused_before_the_engine_sees_it(bench, picture):
    bench.masters.objects["a.png"] = picture
    with pytest.raises(PhotoTooLarge):
        work(bench, claim_of(bench, "a.png"), limits=Limits(100))
    assert bench.engine.calls == 0
    assert not bench.derivatives.objects


def test_weights_may_be_named_by_hash_and_others_are_refused(bench, picture):
    bench.masters.objects["a.png"] = picture
    work(bench, claim_of(bench, "a.png", recipe=Recipe(weights="a" * 64)))
    with pytest.raises(WeightsUnavailable, match="gpen-bfr-512"):
        work(bench, claim_of(bench, "a.png", recipe=Recipe(weights="gpen-bfr-512")))


def test_the_failing_stage_is_known(bench, picture):
    bench.masters.objects["a.png"] = picture
    bench.engine.errors.append(RuntimeError("boom"))
    stages = Stages()
    with pytest.raises(RuntimeError):
        work(bench, claim_of(bench, "a.png"), stages=stages)
    assert stages.current == "restore"


def test_a_lost_claim_ends_the_work_before_anything_is_stored(bench, picture):
    bench.masters.objects["a.png"] = picture
    began = []

    def lose_it_at_the_last_stage():
        began.append(1)
        if len(began) == 6:
            raise OSError("lost")

    with pytest.raises(OSError, match="lost"):
        work(bench, claim_of(bench, "a.png"), stages=Stages(lose_it_at_the_last_stage))
    assert not bench.derivatives.objects


def with_profile(icc):
    buffer = io.BytesIO()
    Image.new("RGB", (40, 40), (90, 120, 60)).save(buffer, "PNG", icc_profile=icc)
    return buffer.getvalue()


def sidecar_of(bench, key):
    outcome = work(bench, claim_of(bench, key))
    return json.loads(bench.derivatives.objects[outcome.sidecar_key])


def test_the_engine_is_told_what_the_samples_mean_and_the_sidecar_says_it(bench, picture):
    bench.masters.objects["wide.png"] = with_profile(rgb_profile(ADOBE, gamma=2.2, name="Scanner"))
    bench.masters.objects["plain.png"] = picture
    assert sidecar_of(bench, "wide.png")["pages"][0]["colour"] == "icc: Scanner"
    assert sidecar_of(bench, "plain.png")["pages"][0]["colour"] == "srgb"
    wide, plain = bench.engine.colours
    assert wide is not None
    assert plain is None


def test_a_profile_that_cannot_be_used_is_in_the_notes(bench):
    broken = rgb_profile(ADOBE, gamma=2.2).replace(b"rTRC", b"xTRC")
    bench.masters.objects["a.png"] = with_profile(broken)
    sidecar = sidecar_of(bench, "a.png")
    assert sidecar["pages"][0]["colour"] == "srgb"
    assert any("ICC profile couldn't be used" in note for note in sidecar["notes"])


@pytest.mark.parametrize("background", [0, 1])
def test_a_halftone_of_black_and_white_is_left_as_it_is(bench, background):
    bits = np.random.default_rng(1).integers(0, 2, (40, 30), np.uint8).astype(bool)
    out = io.BytesIO()
    Image.fromarray(bits).save(out, "TIFF", compression="group4")
    bench.masters.objects["a.tif"] = out.getvalue()
    recipe = Recipe(background_scale=background)
    outcome = work(bench, claim_of(bench, "a.tif", recipe=recipe))
    sidecar = json.loads(bench.derivatives.objects[outcome.sidecar_key])
    notes = [note for note in sidecar["notes"] if "black and white" in note]
    after = pixels_of(bench.derivatives.objects[outcome.derivative_key])
    assert bench.engine.calls == background
    assert len(notes) == 1 - background
    assert (after.dtype == bool) == (not background)
    assert background or (after == bits).all()
    assert ("no face was looked for" in sidecar["summary"]) == (not background)


def test_what_came_of_a_photo_says_how_many_of_its_pages_were_looked_at(bench, picture):
    photo, halftone = Image.open(io.BytesIO(picture)).convert("RGB"), Image.new("1", (40, 30))
    out = io.BytesIO()
    photo.save(out, "TIFF", save_all=True, append_images=[halftone])
    bench.masters.objects["a.tif"] = out.getvalue()
    assert sidecar_of(bench, "a.tif")["summary"] == (
        "1 of 1 finds restored; looked at 1 of 2 pages"
    )
