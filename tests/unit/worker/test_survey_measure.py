from dataclasses import replace

import numpy as np
import pytest

from gpen_engine import Restoration
from gpen_engine.errors import DeviceError
from jobs.errors import StoreUnavailable
from jobs.recipe import Recipe
from jobs.testing import MemoryStore
from worker.codec import Container, Header, PageHeader, decode
from worker.codec.limits import Limits
from worker.survey.headers import Surveyed
from worker.survey.measure import Rate, Sample, choose, fit, measure


def photo(key, megapixels=1.0):
    page = PageHeader(int(megapixels * 1000), 1000, 8, 3, "jpeg")
    return Surveyed(key, 100, Header(Container.JPEG, (page,)))


# Choosing


def test_samples_are_spread_over_all_sizes_and_are_the_same_each_time():
    photos = [photo(f"{number:03}.jpg", 1 + number) for number in range(100)]
    chosen = choose(photos, 4)
    assert [one.key for one in chosen] == ["012.jpg", "037.jpg", "062.jpg", "087.jpg"]
    assert choose(photos[::-1], 4) == chosen


def test_no_more_are_chosen_than_can_be_read():
    broken = Surveyed("c.jpg", 100)
    assert [one.key for one in choose([photo("b.jpg"), broken, photo("a.jpg")], 8)] == [
        "a.jpg",
        "b.jpg",
    ]
    assert choose([broken], 8) == []


# Fitting


def samples(count, seconds, faces=lambda _: 0):
    sizes = np.linspace(0.3, 12, count)
    return [
        Sample(f"{index}.jpg", size, faces(index), seconds(size, faces(index)), 1)
        for index, size in enumerate(sizes)
    ]


def test_the_parts_of_the_time_are_found():
    rate = fit(samples(16, lambda mp, faces: 0.4 + 0.1 * mp + 0.05 * faces, lambda i: i * 7 % 5))
    assert rate.per_photo_s == pytest.approx(0.4)
    assert rate.per_megapixel_s == pytest.approx(0.1)
    assert rate.per_face_s == pytest.approx(0.05)
    assert rate.expected_s(1000, 5000) == pytest.approx(
        1000 * (0.4 + 0.05 * rate.faces_per_photo) + 500
    )


@pytest.mark.parametrize("seconds", [lambda mp, _: 0.3 * mp - 0.2, lambda mp, _: 3 - 0.1 * mp])
def test_no_part_of_the_time_is_negative(seconds):
    rate = fit(samples(8, seconds))
    assert min(rate.per_photo_s, rate.per_megapixel_s, rate.per_face_s) >= 0


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_few_samples_will_do(count):
    taken = samples(count, lambda mp, faces: 0.5 + 0.2 * mp + 0.1 * faces, lambda _: 3)
    megapixels = sum(one.megapixels for one in taken)
    expected = fit(taken).expected_s(count, megapixels)
    assert expected == pytest.approx(sum(one.elapsed_s for one in taken))


def test_photos_of_one_size_and_no_faces_take_their_mean():
    taken = [Sample(f"{index}.jpg", 35.0, 0, 3.0 + index % 2, 1) for index in range(8)]
    assert fit(taken).expected_s(1000, 35_000) == pytest.approx(3500)


def test_without_samples_there_is_no_rate():
    assert fit([]) is None


def test_the_error_shrinks_with_the_samples_and_is_none_when_all_were_measured():
    few = Rate(1, 0, 0, 0, samples=8, spread_s=0.5)
    many = replace(few, samples=128)
    assert few.error_s(1000) > 3 * many.error_s(1000) > 0
    assert few.error_s(8) == 0


def test_of_a_few_samples_nobody_can_tell_the_error():
    assert Rate(1, 0, 0, 0, samples=4, spread_s=0.0).error_s(1000) is None


def test_the_stated_error_is_that_of_the_draw():
    """Half of the draws are within two thirds of a standard error; at most all within three."""
    rng = np.random.default_rng(3)
    sizes, faces = rng.uniform(1, 9, 400), rng.poisson(6, 400)
    taken = 0.3 + 0.1 * sizes + 0.05 * faces + rng.normal(0, 0.05, 400)
    off = []
    for _ in range(200):
        drawn = rng.choice(400, 16, replace=False)
        rate = fit([Sample("a", sizes[i], faces[i], taken[i], 1) for i in drawn])
        off.append((rate.expected_s(400, sizes.sum()) - taken.sum()) / rate.error_s(400))
    assert 0.6 < np.std(off) < 1.5


# Measuring


class Ticking:
    """A clock on which an engine's work takes a second per megapixel, and a second per face."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Ticking()


@pytest.fixture
def timed(bench, clock):
    """The stub engine, whose work takes time on the clock, the first time more."""
    restore = bench.engine.restore

    def slow(*arguments, **options):
        clock.now += 1.0 + (50 if bench.engine.calls == 0 else 0)
        return restore(*arguments, **options)

    bench.engine.restore = slow
    return bench.engine


def take(store, engine, keys, clock, **options):
    chosen = [photo(key, 1 + index) for index, key in enumerate(keys)]
    recipe = Recipe(weights=engine.identity.weights_sha256)
    return measure(
        chosen,
        store=store,
        engine=engine,
        recipe=recipe,
        decode=decode,
        limits=Limits(10**6),
        clock=clock,
        **options,
    )


def test_each_photo_is_restored_and_timed_and_what_the_first_takes_once_does_not_count(
    timed, picture, clock
):
    store = MemoryStore({"a.png": picture, "b.png": picture})
    done = []
    measured = take(store, timed, ["a.png", "b.png"], clock, on_photo=lambda: done.append(1))
    assert [one.elapsed_s for one in measured.samples] == [1.0, 1.0]
    assert [(one.megapixels, one.faces) for one in measured.samples] == [(1.0, 1), (2.0, 1)]
    assert all(one.output_bytes > 1000 for one in measured.samples)
    assert len(done) == 3


def test_nothing_is_kept(timed, picture, clock):
    store = MemoryStore({"a.png": picture})
    take(store, timed, ["a.png"], clock)
    assert store.objects == {"a.png": picture}


def test_a_photo_that_fails_is_a_fault_and_the_others_count(timed, picture, clock):
    store = MemoryStore({"a.png": picture, "b.png": picture[:-200]})
    measured = take(store, timed, ["a.png", "b.png"], clock)
    assert [one.key for one in measured.samples] == ["a.png"]
    assert {key: fault.code for key, fault in measured.faults.items()} == {
        "b.png": "photo.truncated"
    }


@pytest.mark.parametrize("error", [DeviceError("no device"), StoreUnavailable("gone")])
def test_what_is_no_photos_fault_ends_it(bench, picture, clock, error):
    bench.engine.errors = [error]
    with pytest.raises(type(error)):
        take(MemoryStore({"a.png": picture}), bench.engine, ["a.png"], clock)


def test_an_engine_that_restores_nothing_is_timed_too(bench, picture, clock):
    bench.engine.restore = lambda image, *_, **__: Restoration(image.copy(), (), {})
    (sample,) = take(MemoryStore({"a.png": picture}), bench.engine, ["a.png"], clock).samples
    assert sample.faces == 0
