"""Restored faces are found again by their content, and the folder stays within its limit."""

import os
import threading

import pytest
import torch

from gpen_engine.cache import CacheFolder, FaceCache

CROP = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(1))
FACE = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def cache(tmp_path):
    return FaceCache(CacheFolder(tmp_path / "faces"), network=("weights", "fp32"))


def test_a_face_comes_back_exactly(cache):
    cache.put(CROP, FACE)

    assert torch.equal(cache.get(CROP), FACE)


def test_another_crop_is_not_taken_for_it(cache):
    cache.put(CROP, FACE)
    other = CROP.clone()
    other[0, 0, 0] += 1e-6

    assert cache.get(other) is None


def test_a_crop_is_its_content_whatever_its_strides(cache):
    cache.put(CROP, FACE)
    strided = CROP.permute(1, 2, 0).contiguous().permute(2, 0, 1)

    assert torch.equal(cache.get(strided), FACE)


def test_another_network_does_not_get_it(cache, tmp_path):
    cache.put(CROP, FACE)

    assert FaceCache(CacheFolder(tmp_path / "faces"), network=("weights", "fp16")).get(CROP) is None


def test_another_process_gets_it(cache, tmp_path):
    cache.put(CROP, FACE)

    again = FaceCache(CacheFolder(tmp_path / "faces"), network=("weights", "fp32"))

    assert torch.equal(again.get(CROP), FACE)


def test_a_damaged_file_is_no_hit(cache, tmp_path):
    cache.put(CROP, FACE)
    (file,) = (tmp_path / "faces").iterdir()
    file.write_bytes(file.read_bytes()[:40])

    assert cache.get(CROP) is None


def test_the_longest_unused_faces_make_room(tmp_path):
    folder = tmp_path / "faces"
    one = FACE.numel() * 4 + 128
    cache = FaceCache(CacheFolder(folder, 4 * one), network=())
    crops = [CROP + number for number in range(5)]
    for number, crop in enumerate(crops[:4]):
        cache.put(crop, FACE)
        for file in folder.iterdir():
            if file.stat().st_mtime > 1e9:
                os.utime(file, (number, number))
    assert cache.get(crops[0]) is not None

    cache.put(crops[4], FACE)

    assert sum(file.stat().st_size for file in folder.iterdir()) <= 4 * one
    assert cache.get(crops[0]) is not None
    assert cache.get(crops[4]) is not None
    assert cache.get(crops[1]) is None


def test_a_disk_that_takes_nothing_is_no_error(cache, tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numpy.save", full)

    cache.put(CROP, FACE)

    assert cache.get(CROP) is None
    assert list((tmp_path / "faces").iterdir()) == []


def test_two_workers_may_make_room_in_one_folder_at_the_same_time(tmp_path):
    one = FACE.numel() * 4 + 128
    faults = []

    def work(seed: int) -> None:
        cache = FaceCache(CacheFolder(tmp_path, 5 * one), network=(str(seed),))
        try:
            for number in range(60):
                cache.put(CROP + number, FACE)
                cache.get(CROP + number // 2)
        except OSError as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert faults == []
