import io
import json
import re

import numpy as np
import pytest
import tifffile
from PIL import Image

from gpen_engine import Restoration
from jobs.errors import OutputUnfaithful, PhotoUnsupported
from jobs.recipe import Recipe
from tests.unit.worker.audit.archive import LEFT_ALONE, RESTORED, found, noise, scan, tiff
from tests.unit.worker.whole import encode, file_of
from worker.audit.untouched import Difference, Proven, compare, is_same, prove
from worker.codec import Encoded, decode
from worker.codec.limits import Limits

REGION = (4, 6, 20, 24)
REGION_SAMPLES = 16 * 18 * 3


def restored(image, *regions, outcome=RESTORED):
    result = image.copy()
    for x0, y0, x1, y1 in regions:
        result[y0:y1, x0:x1] ^= 1
    return Restoration(result, (outcome,), {})


def encoded(photograph, restorations, output="same"):
    images = [one.image for one in restorations]
    return encode(photograph, images, output=output, jpeg_quality=95, software="test")


def proof_of(data, *regions, outcome=RESTORED, output="same", background=False):
    photograph = decode(data, limits=Limits(10_000))
    done = [restored(page.pixels, *regions, outcome=outcome) for page in photograph.pages]
    return prove(photograph, done, encoded(photograph, done, output), background=background)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_sample_outside_the_regions_is_compared_at_its_own_depth(depth, channels):
    data = scan(depth=depth, channels=channels)
    proof = proof_of(data, REGION)
    assert (proof.outside_regions, proof.stored) == (Proven.IDENTICAL, Proven.IDENTICAL)
    assert proof.samples_compared == (30 * 40 - 16 * 18) * channels
    assert proof.reason == ""


def test_where_no_face_was_restored_all_samples_are_compared():
    assert proof_of(scan(), outcome=LEFT_ALONE).samples_compared == 30 * 40 * 3


def test_transparency_is_compared_as_well():
    assert proof_of(scan(channels=4), REGION).samples_compared == 30 * 40 * 4 - REGION_SAMPLES


def test_every_page_counts():
    data = tiff(noise(0), noise(1, (24, 32)))
    assert proof_of(data, REGION).samples_compared == (30 * 40 - 16 * 18) * 3 + 24 * 32 - 16 * 18


@pytest.mark.parametrize("place", [(3, 6, 4, 7), (20, 23, 21, 24), (0, 39, 1, 40)])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_one_level_beside_the_region_is_found(place, depth):
    with pytest.raises(OutputUnfaithful, match="3 samples outside"):
        proof_of(scan(depth=depth), REGION, place)


def test_a_face_that_was_left_alone_has_no_region_to_change():
    with pytest.raises(OutputUnfaithful, match="outside the regions"):
        proof_of(scan(), REGION, outcome=LEFT_ALONE)


def test_a_file_with_other_samples_than_were_restored_is_found():
    photograph = decode(scan(), limits=Limits(10_000))
    done = [restored(photograph.pages[0].pixels, REGION)]
    other = [restored(photograph.pages[0].pixels)]
    with pytest.raises(OutputUnfaithful, match="other samples"):
        prove(photograph, done, encoded(photograph, other), background=False)


def test_a_file_with_other_transparency_is_found():
    photograph = decode(scan(channels=4), limits=Limits(10_000))
    other = decode(scan(channels=4, seed=1), limits=Limits(10_000)).pages[0].alpha
    done = [restored(photograph.pages[0].pixels)]
    written = encoded(photograph, done)
    photograph.pages[0].alpha.samples[:] = other.samples
    with pytest.raises(OutputUnfaithful, match="outside the regions"):
        prove(photograph, done, written, background=False)


@pytest.mark.parametrize("data", [b"", b"rubbish", scan()[:-30]])
def test_a_file_that_cannot_be_decoded_is_found(data):
    photograph = decode(scan(), limits=Limits(10_000))
    done = [restored(photograph.pages[0].pixels)]
    with pytest.raises(OutputUnfaithful, match="decoded"):
        prove(photograph, done, Encoded(file_of(data), ".png", "image/png"), background=False)


def test_a_missing_page_is_found():
    photograph = decode(tiff(noise(0), noise(1)), limits=Limits(10_000))
    done = [restored(page.pixels) for page in photograph.pages]
    with pytest.raises(OutputUnfaithful, match="pages"):
        prove(
            photograph,
            done,
            Encoded(file_of(tiff(noise(0))), ".tif", "image/tiff"),
            background=False,
        )


def test_colour_in_a_gray_page_is_stored_as_its_luma_and_that_is_proved():
    photograph = decode(scan(channels=1), limits=Limits(10_000))
    image = photograph.pages[0].pixels.copy()
    x0, y0, x1, y1 = REGION
    image[y0:y1, x0:x1] = noise(5)[y0:y1, x0:x1]
    done = [Restoration(image, (RESTORED,), {})]
    written = encoded(photograph, done)
    proof = prove(photograph, done, written, background=False)
    assert proof.outside_regions is Proven.IDENTICAL
    image[10, 10] ^= 4
    with pytest.raises(OutputUnfaithful):
        prove(photograph, done, written, background=False)


def test_of_a_jpeg_nothing_can_be_proved_and_that_is_said():
    proof = proof_of(scan(), REGION, output="jpeg")
    assert (proof.outside_regions, proof.stored) == (Proven.NOT_APPLICABLE,) * 2
    assert "JPEG" in proof.reason


def test_of_a_restored_background_only_what_is_stored_is_proved():
    proof = proof_of(scan(), (0, 0, 30, 40), background=True)
    assert (proof.outside_regions, proof.stored) == (Proven.NOT_APPLICABLE, Proven.IDENTICAL)
    assert "background" in proof.reason


def test_regions_may_overlap_and_reach_over_bands_and_edges():
    before = noise(0, (700, 20, 3))
    after = before.copy()
    after[100:600, 5:15] ^= 1
    regions = [(5, 100, 15, 400), (0, 300, 20, 600)]
    outside = 700 * 20 - 200 * 10 - 300 * 20
    assert compare(before, after, regions) == Difference(outside * 3, 0)
    assert compare(before, after).differing == 500 * 10 * 3
    assert compare(before, after, regions[:1]).differing == 200 * 10 * 3


def test_pictures_are_the_same_only_to_the_last_sample():
    before = noise(0, (600, 20, 3))
    after = before.copy()
    assert is_same(before, after)
    after[-1, -1, -1] ^= 1
    assert not is_same(before, after)
    assert not is_same(before, before[:-1])


def test_an_engine_that_changes_more_than_it_says_delivers_nothing(archive):
    with pytest.raises(OutputUnfaithful) as caught:
        archive.deliver("a.png", scan(), [RESTORED], beside=[(25, 30, 26, 31)])
    assert caught.value.code == "output.unfaithful"
    assert not archive.derivatives.objects


def test_a_format_that_cannot_hold_the_master_is_refused_as_before(archive):
    with pytest.raises(PhotoUnsupported):
        archive.deliver("a.tif", tiff(noise(0), noise(1)), [], recipe=Recipe(output="png"))


def test_the_proof_is_in_the_sidecar(full_archive):
    for key in full_archive.keys:
        text = full_archive.sidecar(key).decode()
        assert re.search(r'"outside_regions": "(identical|not applicable)"', text)


def test_a_region_of_the_whole_page_leaves_nothing_to_compare():
    proof = proof_of(scan(), (0, 0, 30, 40), outcome=found((0, 0, 30, 40)))
    assert (proof.outside_regions, proof.samples_compared) == (Proven.IDENTICAL, 0)


def save(kind, mode="RGB", **options):
    buffer = io.BytesIO()
    Image.fromarray(noise(0)).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def lab(dtype=np.uint8):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, noise(0, dtype=dtype), photometric="cielab")
    return buffer.getvalue()


OWN_KINDS = {
    "cmyk": save("TIFF", "CMYK"),
    "lab": lab(),
    "float": tiff(np.random.default_rng(0).random((40, 30, 3), np.float32)),
    "twelve bits": tiff(noise(0, dtype=np.uint16) >> 4),
    "webp": save("WEBP", lossless=True),
    "jp2": save("JPEG2000", irreversible=False),
}


@pytest.mark.parametrize("kind", OWN_KINDS)
@pytest.mark.parametrize("finds", [[], [RESTORED]])
def test_samples_of_every_kind_are_compared_as_the_master_has_them(archive, kind, finds):
    key = archive.deliver("a.tif", OWN_KINDS[kind], finds)
    page = decode(OWN_KINDS[kind], limits=Limits(10_000)).pages[0]
    stored = decode(archive.derivative(key), limits=Limits(10_000)).pages[0]
    proof = json.loads(archive.sidecar(key))["proof"]
    assert (proof["outside_regions"], proof["stored"]) == ("identical", "identical")
    outside = np.ones((40, 30), bool)
    if finds:
        outside[6:24, 4:20] = False
    assert proof["samples_compared"] == np.count_nonzero(outside) * page.own.shape[2]
    np.testing.assert_array_equal(stored.own[outside], page.own[outside])


def test_a_format_without_the_masters_kind_of_samples_holds_what_was_shown(archive):
    inverted = io.BytesIO()
    tifffile.imwrite(inverted, noise(0, (40, 30)), photometric="miniswhite")
    key = archive.deliver("a.tif", inverted.getvalue(), [RESTORED], recipe=Recipe(output="png"))
    proof = json.loads(archive.sidecar(key))["proof"]
    assert (proof["outside_regions"], proof["stored"]) == ("identical as shown", "identical")
    assert "own kind" in proof["reason"]


@pytest.mark.parametrize("kind", OWN_KINDS)
def test_a_changed_sample_of_every_kind_is_found(archive, kind):
    with pytest.raises(OutputUnfaithful, match="outside the regions"):
        archive.deliver("a.tif", OWN_KINDS[kind], [RESTORED], beside=[(25, 30, 26, 31)])


def test_a_value_that_is_no_number_is_itself():
    before = np.array([[1.0, np.nan]], np.float32)
    assert is_same(before, before.copy())
    assert compare(before, before.copy()).differing == 0
    assert compare(before, np.array([[1.0, 2.0]], np.float32)).differing == 1
    assert not is_same(before, before.view(np.uint32))
