import pytest

from jobs.memory import MemoryClass, estimate_bytes, memory_class

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
