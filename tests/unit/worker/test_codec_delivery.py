"""Every kind of file goes through the whole pipeline, and programs other than ours compare.

The files are the generated masters and all of ../shared/corpus/formats. ExifTool tells everything
that it finds in a master and in its derivative: what differs has to be in `MAY_DIFFER`, each with
its reason, which are those of docs/formats.md.
"""

import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.unit.worker.codec_masters import MASTERS
from tests.unit.worker.delivery import BOX, Delivered, deliver
from tests.unit.worker.readers import READERS, assert_same_outside

CORPUS = sorted((Path(__file__).parents[4] / "shared" / "corpus" / "formats").glob("*"))
FILES: dict[str, Callable[[], bytes]] = MASTERS | {path.name: path.read_bytes for path in CORPUS}
FROM_CORPUS = [path.name for path in CORPUS]
LARGE = {"album_scan_7016x4960.jpg", "big_gray16_3200x4427.tif"}
"""One reader each is enough for them."""
LEFT_ALONE = {"bilevel_g4.tif", "tiff bilevel", "tiff group 4", "tiff group 3, 0 is white"}

Value = object
"""As ExifTool tells it; None where a file hasn't the tag."""
Dump = dict[str, Value]


@dataclass(frozen=True, slots=True)
class Rule:
    """Tags that may differ.

    Attributes:
        tags: their group and name.
        why: the reason.
        files: those that it is about.
        allows: whether it does, given a tag's value before and after.
    """

    tags: str
    why: str
    files: str = ".*"
    allows: Callable[[Value, Value], bool] = lambda _before, _after: True


def is_new(before: Value, _after: Value) -> bool:
    return before is None


def is_lost(_before: Value, after: Value) -> bool:
    return after is None


#: What holds the samples of a container: compared only where the derivative has the same one.
CONTAINER = re.compile(
    r"(File|JFIF|Adobe|GIF|PNG|PNG-pHYs|Jpeg2000|RIFF|QuickTime|Meta):"
    r"(?!Title|Artist|Copyright|Author|Description|Keywords)\w+"
)
MAY_DIFFER = [
    Rule(r"XMP-(gpen|iptcExt|xmpMM):\w+", "our label", allows=is_new),
    Rule(
        r"(IFD\d|PNG):Software",
        "ours stands only where there is none",
        allows=lambda before, after: before is None and str(after).startswith("gpen-archive "),
    ),
    Rule(r"IFD\d:(Strip|Tile)(Offsets|ByteCounts)", "how samples lie in the file"),
    Rule(
        r"IFD0:(Compression|Predictor|PhotometricInterpretation|JPEGTables|YCbCrSubSampling"
        r"|ReferenceBlackWhite|PreviewImage\w*)",
        "a lossy master becomes lossless; ExifTool takes strips of JPEG for previews",
        files=r"tiff (cmyk )?jpeg( 2000)?|jpeg_in_tiff\.tif",
    ),
    Rule(
        r"IFD0:(BitsPerSample|SamplesPerPixel|PhotometricInterpretation|ColorMap"
        r"|PlanarConfiguration)",
        "palettes and few bits become whole samples",
        files=r"tiff palette.*|tiff 4 bits",
    ),
    Rule(
        r"PNG:(BitDepth|ColorType|Palette|Transparency)",
        "palettes, few bits and a transparent colour become whole samples",
        files=r"palette\.png|png palette|png bilevel|png transparent colour",
    ),
    Rule(
        r"IFD0:(BitsPerSample|SamplesPerPixel|PlanarConfiguration)",
        "a field that says what its absence means",
        files="|".join(LEFT_ALONE),
        allows=lambda *values: values in {(1, None), (None, 1), ("Chunky", None)},
    ),
    Rule(
        r"IFD0:ImageDescription",
        "tifffile's note would be wrong once the page was turned",
        files=r"orient_6\.tif",
        allows=lambda before, after: str(before).startswith('{"shape"') and after is None,
    ),
    Rule(
        r"IFD1:(Compression|Thumbnail\w+)",
        "a thumbnail would show the picture before",
        files=r"fonds.*",
        allows=is_lost,
    ),
    Rule(r"PNG:ProfileName", "the name of the chunk; the profile's own is in its bytes"),
    Rule(
        r"IFD0:\w+",
        "CMYK becomes TIFF, whose fields say what JPEG's segments said",
        files=r"cmyk\.jpg|jpeg cmyk",
        allows=is_new,
    ),
    Rule(r"ExifTool:Warning", "about strips of JPEG, which are gone", allows=is_lost),
]


@cache
def delivered(name: str) -> Delivered:
    return deliver(name, FILES[name]())


@cache
def dumps(folder: Path) -> dict[str, tuple[Dump, Dump]]:
    """All that ExifTool finds in masters and derivatives, by the master's name; run once."""
    for number, name in enumerate(FILES):
        (folder / f"{number} before").write_bytes(delivered(name).master)
        (folder / f"{number} after").write_bytes(delivered(name).derivative)
    command = ["exiftool", "-j", "-G1", "-a", "-b", "-struct", "-x", "System:all"]
    command += map(str, folder.iterdir())  # given a folder it passes over what has no suffix
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    by_file = {Path(dump.pop("SourceFile")).name: dump for dump in found}
    return {
        name: (by_file[f"{number} before"], by_file[f"{number} after"])
        for number, name in enumerate(FILES)
    }


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    if not shutil.which("exiftool"):
        pytest.skip("exiftool isn't installed")
    return dumps(tmp_path_factory.mktemp("dumps"))


PAIRS = [
    ("ImageWidth", "ImageHeight"),
    ("XResolution", "YResolution"),
    ("ExifImageWidth", "ExifImageHeight"),
    ("PixelsPerUnitX", "PixelsPerUnitY"),
]


def upright(dump: Dump) -> Dump:
    """What a dump should say once its picture was turned: this rule is about values, not tags."""
    turn = str(dump.get("IFD0:Orientation", ""))
    swaps = dict(PAIRS) | {other: one for one, other in PAIRS} if re.search("90|270", turn) else {}
    found = {}
    for tag, value in dump.items():
        group, _, name = tag.partition(":")
        found[f"{group}:{swaps.get(name, name)}"] = value
    return found | ({"IFD0:Orientation": "Horizontal (normal)"} if turn else {})


def differences(before: Dump, after: Dump) -> dict[str, tuple[Value, Value]]:
    """What differs, but for a container that had to become another; composites are of the rest."""
    expected = upright(before)
    is_other = before["File:FileType"] != after["File:FileType"]
    return {
        tag: (expected.get(tag), after.get(tag))
        for tag in sorted(expected.keys() | after.keys())
        if expected.get(tag) != after.get(tag)
        and not tag.startswith("Composite:")
        and not (is_other and CONTAINER.fullmatch(tag))
    }


def rules_for(name: str, tag: str, values: tuple[Value, Value]) -> list[Rule]:
    return [
        rule
        for rule in MAY_DIFFER
        if re.fullmatch(rule.tags, tag) and re.fullmatch(rule.files, name) and rule.allows(*values)
    ]


@pytest.mark.parametrize("name", FILES)
def test_exiftool_finds_nothing_else_than_in_the_master_but_what_must_differ(told, name):
    found = differences(*told[name])
    assert {tag: both for tag, both in found.items() if not rules_for(name, tag, both)} == {}


def test_every_difference_that_is_allowed_occurs(told):
    if not CORPUS:
        pytest.skip("../shared/corpus isn't here")
    used = [
        rule.why
        for name, pair in told.items()
        for tag, values in differences(*pair).items()
        for rule in rules_for(name, tag, values)
    ]
    assert {rule.why for rule in MAY_DIFFER} == set(used)


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith("tiff")])
def test_a_comment_comes_back_in_another_container_too(told, name):
    before, after = told[name]
    comments = [dump.get("File:Comment", dump.get("PNG:Comment")) for dump in (before, after)]
    assert comments[0] == comments[1]


def own_readers(name: str) -> list[str]:
    """Those that decode a file as the pipeline does: lossy ones differ from decoder to decoder."""
    if not name.endswith(".tif"):
        return ["pillow", "vips"] if name.endswith(".png") else ["pillow"]
    if name in LARGE:
        return ["tifffile"]
    return ["pillow", "vips"] if name in LEFT_ALONE else list(READERS)


@pytest.mark.parametrize("name", FROM_CORPUS)
def test_outside_the_face_other_readers_find_the_same_samples(name):
    photo, compared = delivered(name), 0
    for reader in own_readers(name):
        before: list[np.ndarray] = []
        with suppress(Exception):  # whatever it can't read it doesn't have to
            before = READERS[reader](photo.master)
        if not before:
            continue
        after = READERS[reader](photo.derivative)
        for one, other in zip(before, after, strict=True):
            assert_same_outside(BOX, one, other)
            assert (other[BOX] != one[BOX]).any() == (name not in LEFT_ALONE)
        compared += 1
    assert compared


def profiles_of(data: bytes) -> list[bytes | None]:
    """The ICC profile of each page."""
    if data[:2] in {b"II", b"MM"}:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            return [page.tags.valueof(34675) for page in file.pages]
    with Image.open(io.BytesIO(data)) as image:
        return [image.info.get("icc_profile")]


def resolutions_of(data: bytes) -> list[tuple[float, ...] | None]:
    """The resolution of each page in dots per inch; None where there is none."""
    found = []
    with Image.open(io.BytesIO(data)) as image:
        for index in range(image.n_frames if image.format == "TIFF" else 1):
            image.seek(index)
            dpi = image.info.get("dpi")
            found.append(dpi and tuple(round(float(value), 1) for value in dpi))
    return found


@pytest.mark.parametrize("name", FROM_CORPUS)
def test_the_profile_comes_back_byte_for_byte(name):
    photo = delivered(name)
    assert profiles_of(photo.derivative) == profiles_of(photo.master)


@pytest.mark.parametrize("name", [name for name in FROM_CORPUS if name != "float32_rgb.tif"])
def test_the_resolution_comes_back(name):
    photo = delivered(name)
    before = resolutions_of(photo.master)
    after = resolutions_of(photo.derivative)
    for one, other in zip(before, after, strict=True):
        assert one in {None, (1.0, 1.0), other}  # a density without a unit is none


@pytest.mark.parametrize("name", FILES)
def test_what_was_left_out_is_never_what_can_be_read(name):
    assert not [note for note in delivered(name).notes if "can't be read" in note]
