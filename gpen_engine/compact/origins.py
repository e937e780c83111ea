"""Where a crop comes from: the manifest's source file, its licence, and a group for the scores.

In: `MANIFEST.csv` beside the crops. Out: an `Origin` for each crop's path. The synthetic
collections were published as sheets whose names tell what varies on them (age, hair, hats), not
what any one face shows: a group is the faces of the sheets on one theme.
"""

from dataclasses import dataclass
from pathlib import Path

from gpen_engine.compact.data import read_manifest

_SHEETS = ("sfhq", "sfhq_t2i")
_THEMES: tuple[tuple[frozenset[str], str], ...] = tuple(
    (frozenset(words.split()), theme)
    for words, theme in (
        ("age ethnicity", "age and ethnicity"),
        ("age", "age"),
        ("ethnicity", "ethnicity"),
        ("hair", "hair and beards"),
        ("glasses", "glasses, hats, jewellery"),
        ("hats", "glasses, hats, jewellery"),
        ("accessories", "glasses, hats, jewellery"),
        ("jewelry", "glasses, hats, jewellery"),
        ("expression", "expression, gaze, pose"),
        ("gaze", "expression, gaze, pose"),
        ("pose", "expression, gaze, pose"),
        ("eye", "features and make-up"),
        ("features", "features and make-up"),
        ("makeup", "features and make-up"),
        ("characteristics", "features and make-up"),
        ("lighting", "light and background"),
        ("background", "light and background"),
    )
)
"""The first whose words are all in the sheet's name decides."""
_OTHER = "other sheets"


@dataclass(frozen=True, slots=True)
class Origin:
    """What the manifest tells of a crop; a text is empty where it tells nothing.

    Attributes:
        file: the crop's path below the folder of crops.
        source_file: the file as it was published.
        licence: its licence and author.
        source: its collection, which is its folder's name.
        group: the theme of the sheet it was cut from; else its collection.
    """

    file: str
    source_file: str
    licence: str
    source: str
    group: str


def read_origins(root: Path) -> dict[Path, Origin]:
    """Return the origin of each crop of a folder, by the crop's path.

    Raises:
        FileNotFoundError: there is no manifest.
        ManifestError: it has no column `file`, or a row has fewer or more fields than columns.
    """
    origins = read_manifest(root, ("file",), _origin)
    return {root / origin.file: origin for origin in origins}


def _origin(row: dict[str, str]) -> Origin:
    source_file = row.get("source_file", "")
    source = row["file"].split("/", 1)[0]
    licence = row.get("licence", "")
    return Origin(row["file"], source_file, licence, source, group_of(source, source_file))


def group_of(source: str, source_file: str) -> str:
    """Return a face's group: its collection, or the theme of the sheet it was cut from."""
    if source not in _SHEETS:
        return source
    words = set(Path(source_file).stem.lower().split("_"))
    return next((theme for needed, theme in _THEMES if needed <= words), _OTHER)
