import json
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import pytest

from gpen_engine.faces import ModelIdentity
from gpen_engine.registry import COMPACT
from jobs.errors import OutputDamaged, OutputNotReproducible, PhotoTooLarge
from jobs.recipe import Recipe
from tests.unit.worker.audit.archive import (
    IDENTITY,
    LEFT_ALONE,
    RESTORED,
    PageEngine,
    noise,
    scan,
    tiff,
)
from tests.unit.worker.whole import encode
from worker.audit.record import read, read_sealed
from worker.audit.seal import BLANK, seal
from worker.codec import decode
from worker.codec.limits import Limits
from worker.reproduction import describe_difference, reproduce, weights_of


def again(archive, key, *pages, master=None, engine=None, record=None, max_pixels=1_000_000):
    record = record or read_sealed(archive.sidecar(key))
    data = archive.masters.get(record.master.key) if master is None else master
    engine = engine or PageEngine([list(page) for page in pages])
    return reproduce(record, data, engine, decode=decode, limits=Limits(max_pixels))


def record_with(archive, key, **changes):
    return read(json.dumps(json.loads(archive.sidecar(key)) | changes).encode())


@pytest.mark.parametrize(
    "recipe",
    [Recipe(), Recipe(output="jpeg"), Recipe(output="tiff"), Recipe(background_scale=2)],
)
def test_the_same_engine_gives_the_same_bytes(archive, recipe):
    key = archive.deliver("box 1/a.png", scan(), [RESTORED], recipe=recipe)
    made = again(archive, key, [RESTORED])
    assert made.identical
    assert made.encoded.data == archive.derivative(key)
    assert made.changed == ()


def test_all_pages_are_made_again(archive):
    key = archive.deliver("a.tif", tiff(noise(0), noise(1, (9, 8))), [], [LEFT_ALONE])
    assert again(archive, key, [], [LEFT_ALONE]).identical


def test_the_recorded_software_is_named_so_that_a_later_version_can_compare(archive):
    key = archive.deliver("a.png", scan(), [RESTORED])
    other = record_with(archive, key, software="gpen-archive 9.9")
    made = again(archive, key, [RESTORED], record=other)
    assert b"gpen-archive 9.9" in made.encoded.data
    assert not made.identical


def test_other_pixels_are_another_derivative(archive):
    key = archive.deliver("a.png", scan(), [RESTORED])
    made = again(archive, key, [])
    assert not made.identical
    said = describe_difference(
        archive.derivative(key), made.encoded.data, decode=decode, limits=Limits(1_000_000)
    )
    before, after = (
        decode(data, limits=Limits(1_000_000)).pages[0].pixels.astype(int)
        for data in (archive.derivative(key), made.encoded.data)
    )
    apart = np.abs(before - after)
    assert said == (
        f"{np.count_nonzero(apart)} of 3600 samples differ, by {apart.max()} of 255 at most"
    )


def test_a_difference_around_the_samples_is_told_from_one_in_them():
    photograph = decode(scan(), limits=Limits(10_000))
    other = encode(
        photograph, [photograph.pages[0].pixels], output="png", jpeg_quality=95, software="x"
    )
    said = describe_difference(scan(), other.data, decode=decode, limits=Limits(10_000))
    assert "all samples are the same" in said


def test_pictures_of_other_sizes_have_no_distance():
    assert "sizes" in describe_difference(
        scan(), tiff(noise(0, (9, 8))), decode=decode, limits=Limits(10_000)
    )


def test_samples_that_only_the_file_holds_are_compared_as_they_are():
    samples = np.linspace(0, 1, 40 * 30, dtype=np.float32).reshape(40, 30)
    other = samples.copy()
    other[20, 10] = np.nextafter(other[20, 10], np.float32(2))  # far less than 1/65535
    pair = tiff(samples), tiff(other)
    said = describe_difference(*pair, decode=decode, limits=Limits(10_000))
    assert said.startswith("1 of 1200 samples differ, by 5.96")


def test_transparency_is_compared_too():
    samples = noise(0, (40, 30, 4))
    other = samples.copy()
    other[20, 10, 3] ^= 4
    before, after = (tiff(one, extrasamples=["unassalpha"]) for one in (samples, other))
    said = describe_difference(before, after, decode=decode, limits=Limits(10_000))
    assert said == "1 of 4800 samples differ, by 4 of 255 at most"


def test_samples_of_another_kind_have_no_distance():
    pair = tiff(noise(0)), tiff(noise(0, dtype=np.uint16))
    said = describe_difference(*pair, decode=decode, limits=Limits(10_000))
    assert "another kind" in said


def test_another_engine_is_said_to_be_one(archive):
    key = archive.deliver("a.png", scan(), [RESTORED])
    other = replace(
        IDENTITY, detector=ModelIdentity("d", "f" * 64), parser=ModelIdentity("p", "e" * 64)
    )
    made = again(archive, key, engine=PageEngine([[RESTORED]], identity=other))
    assert made.changed == ("detector_sha256", "parser_sha256")


def test_weights_may_lie_in_a_file_of_any_name(archive):
    then, now = (replace(IDENTITY, weights=name) for name in ("old name.pth", "own-aaaaaaaa"))
    engine, recipe = PageEngine([[RESTORED]], identity=then), Recipe(weights="a" * 64)
    key = archive.deliver("a.png", scan(), engine=engine, recipe=recipe)
    assert b"old name.pth" in archive.derivative(key)
    assert again(archive, key, engine=PageEngine([[RESTORED]], identity=now)).identical


def test_a_background_network_may_have_got_a_name_since(archive):
    recipe = Recipe(background_scale=1)
    then = replace(IDENTITY, background=ModelIdentity("old scenery.pth", "c" * 64))
    engine = PageEngine([[RESTORED]], identity=then)
    key = archive.deliver("a.png", scan(), engine=engine, recipe=recipe)
    assert b"old scenery.pth" in archive.derivative(key)
    assert again(archive, key, [RESTORED]).identical


def test_a_sidecar_of_version_2_is_reproduced_too(archive):
    key = archive.deliver("a.png", scan(), [RESTORED])
    content = json.loads(archive.sidecar(key)) | {"schema_version": 2, "seal": BLANK}
    del content["environment"]
    old = seal((json.dumps(content, indent=2) + "\n").encode())
    made = again(archive, key, [RESTORED], record=read_sealed(old))
    assert made.identical
    assert made.likely is None


def test_what_else_may_have_moved_bits_is_told(archive):
    key = archive.deliver("a.png", scan(), [RESTORED])
    environment = json.loads(archive.sidecar(key))["environment"]
    assert again(archive, key, [RESTORED]).likely == ()
    versions = environment["versions"] | {"torch": "1.0", "gone": "1"}
    old = environment | {"threads": 64, "instructions": "AVX512", "versions": versions}
    record = record_with(archive, key, environment=old)
    assert again(archive, key, [RESTORED], record=record).likely == (
        "threads 64 then, 4 now",
        "instructions AVX512 then, AVX2 now",
        f"torch 1.0 then, {version('torch')} now",
    )
    on_a_card = replace(IDENTITY, device="cuda:0", threads=None, instructions=None)
    engine = PageEngine([[RESTORED]], identity=on_a_card)
    assert again(archive, key, engine=engine).likely == ()


def test_points_that_were_left_are_left_again(archive):
    key = archive.deliver("a.png", scan(), [RESTORED])
    record = record_with(archive, key, by_hand={"leave": [[11.0, 12.5]]})
    engine = PageEngine([[RESTORED]])
    assert again(archive, key, engine=engine, record=record).identical
    assert engine.treatments[0].faces.leave == ((11.0, 12.5),)


def test_a_mask_is_in_no_sidecar(archive):
    key = archive.deliver("a.png", scan(), [RESTORED])
    record = record_with(archive, key, by_hand={"keep_mask_sha256": "e" * 64})
    with pytest.raises(OutputNotReproducible, match="mask"):
        again(archive, key, [RESTORED], record=record)


def test_another_master_is_refused(archive):
    key = archive.deliver("a.png", scan(), [RESTORED])
    with pytest.raises(OutputNotReproducible, match="master"):
        again(archive, key, [RESTORED], master=scan(seed=9))


def test_other_weights_are_refused(archive):
    key = archive.deliver("a.png", scan(), [RESTORED])
    other = PageEngine([[RESTORED]], identity=replace(IDENTITY, weights_sha256="f" * 64))
    with pytest.raises(OutputNotReproducible, match="weights"):
        again(archive, key, engine=other)


def test_a_setting_from_the_future_is_refused(archive):
    key = archive.deliver("a.png", scan(), [RESTORED])
    recipe = json.loads(archive.sidecar(key))["recipe"] | {"colourise": True}
    with pytest.raises(OutputNotReproducible, match="colourise"):
        again(archive, key, [RESTORED], record=record_with(archive, key, recipe=recipe))


def test_a_picture_over_the_limit_is_refused(archive):
    key = archive.deliver("a.png", scan(), [RESTORED])
    with pytest.raises(PhotoTooLarge):
        again(archive, key, [RESTORED], max_pixels=100)


def test_known_weights_are_found_by_their_hash(archive):
    key = archive.deliver("a.png", scan(), [RESTORED])
    engine = json.loads(archive.sidecar(key))["engine"]
    known = engine | {"weights": "another name", "weights_sha256": COMPACT.sha256}
    assert weights_of(record_with(archive, key, engine=known)) == "compact"
    with pytest.raises(OutputNotReproducible, match="--weights"):
        weights_of(record_with(archive, key))


def test_a_sidecar_that_was_changed_is_not_believed(archive):
    key = archive.deliver("a.png", scan(), [RESTORED])
    with pytest.raises(OutputDamaged, match="broken"):
        read_sealed(archive.sidecar(key).replace(b'"attempt": 1', b'"attempt": 2'))
