"""`worker.export.names`: every key has one name that all tools read alike."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.export.names import Names


@pytest.mark.parametrize(
    "key", ["a.tif", "Box 1/Frau Müller (1).tif", "日本語/写真.tif", "~x", "*"]
)
def test_a_plain_key_is_its_own_name(key):
    assert Names().name(key) == key


@pytest.mark.parametrize(
    ("key", "begins", "ends"),
    [
        ("100%.tif", "100_~", ".tif"),
        ("a%0A/b.tif", "a_0A/b~", ".tif"),
        ("a\x85b.tif", "a_b~", ".tif"),
        ("a.tif ", "a~", ".tif_"),
        ("\u00a0a/b.tif", "_a/b~", ".tif"),
    ],
)
def test_a_disputed_character_gives_way(key, begins, ends):
    name = Names().name(key)
    assert name.startswith(begins)
    assert name.endswith(ends)
    assert len(name) == len(begins) + 8 + len(ends)


def test_a_name_is_the_same_in_every_export():
    assert Names().name("100%.tif") == Names().name("100%.tif")
    assert Names().name("100%.tif") != Names().name("100_.tif")


@given(st.lists(st.text("aAäÄ%_ \x85~e\u0301.é/\u017fsß", min_size=1, max_size=6), unique=True))
def test_no_two_keys_share_a_name(keys):
    names = Names()
    given_names = [names.name(key) for key in keys]
    assert len({name.casefold() for name in given_names}) == len(keys)
    assert not any(char in name for name in given_names for char in "%\x85\u2028\u2029\r\n")


@pytest.mark.parametrize("part", ["a" * 900, "\u00fc" * 400 + ".tif", "." + "b" * 600])
def test_no_part_of_a_name_is_longer_than_file_systems_take(part):
    for key in (part, f"{part}/{part}.tif"):
        name = Names().name(key)
        assert all(len(f"{one}.premis.xml".encode()) <= 255 for one in name.split("/"))
        assert name.endswith(".tif") is key.endswith(".tif")
