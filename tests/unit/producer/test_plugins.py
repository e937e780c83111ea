import pytest

from producer.plugins import load


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install a distribution that has the given entries."""

    def install(*entries: str) -> None:
        info = tmp_path / "gpen_test_plugin-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: gpen-test-plugin\nVersion: 1\n"
        )
        (info / "entry_points.txt").write_text("\n".join(("[gpen_archive.test]", *entries)))
        monkeypatch.syspath_prepend(tmp_path)

    return install


def test_entries_are_loaded(installed):
    installed("a = os.path:join")
    (loaded,), missing = load("gpen_archive.test")
    assert loaded("a", "b") == "a/b"
    assert missing == []


def test_an_entry_that_cannot_be_imported_is_reported_with_a_remedy(installed):
    installed("a = os.path:join", "engine = not_installed_here.commands:register")
    loaded, (missing,) = load("gpen_archive.test")
    assert len(loaded) == 1
    for part in ("engine", "not_installed_here", "pip install '.[worker]'"):
        assert part in str(missing)


def test_an_entry_whose_attribute_is_gone_is_reported_too(installed):
    installed("engine = os.path:gone")
    assert [entry.name for entry in load("gpen_archive.test")[1]] == ["engine"]
