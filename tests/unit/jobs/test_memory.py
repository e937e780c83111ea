import pytest

from jobs.memory import MemoryClass, classes_for, estimate_bytes, memory_class

MB = 1_000_000


@pytest.mark.parametrize(
    ("key", "size_bytes", "expected"),
    [
        ("holiday.jpg", 4 * MB, MemoryClass.SMALL),
        ("scan.tif", 100 * MB, MemoryClass.SMALL),
        ("scan.TIFF", 400 * MB, MemoryClass.MEDIUM),
        ("album.jpg", 40 * MB, MemoryClass.MEDIUM),
        ("wall.tif", 2000 * MB, MemoryClass.LARGE),
        ("poster.heic", 100 * MB, MemoryClass.LARGE),
        ("empty.jpg", 0, MemoryClass.SMALL),
    ],
)
def test_a_photo_is_routed_by_what_its_file_will_unfold_to(key, size_bytes, expected):
    assert memory_class(key, size_bytes) is expected


def test_a_compressed_file_needs_more_than_an_uncompressed_one_of_its_size():
    assert estimate_bytes("a.jpg", MB) > estimate_bytes("a.png", MB) > estimate_bytes("a.tif", MB)


@pytest.mark.parametrize(
    ("room_gib", "classes"),
    [
        (1.9, "small"),
        (3.8, "small"),
        (5.7, "small medium"),
        (11.7, "small medium"),
        (15.7, "small medium large"),
        (23.6, "small medium large"),
    ],
)
def test_a_worker_that_nobody_told_takes_what_its_card_has_room_for(room_gib, classes):
    assert classes_for(int(room_gib * (1 << 30))) == tuple(classes.split())
