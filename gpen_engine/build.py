"""`load(...)`: the only place where the engine's parts are wired together."""

import threading
from pathlib import Path

from gpen_engine import restorers
from gpen_engine.background import load_background
from gpen_engine.cache import CacheFolder
from gpen_engine.checkpoint import hash_file
from gpen_engine.detect import load_detector
from gpen_engine.devices import pick_device
from gpen_engine.finder import Finder
from gpen_engine.forward import FaceForward
from gpen_engine.memory import MemoryPlanner
from gpen_engine.networks import FaceModel
from gpen_engine.parse import load_parser
from gpen_engine.restorer import Restorer
from gpen_engine.restorers import WeightsFile
from gpen_engine.weights import acceptance, find_generator, known_by_hash, name_of, require_terms


def load(
    weights: str | Path = "compact",
    *,
    device: str = "auto",
    precision: str = "auto",
    folder: Path | None = None,
    accept_terms: bool | str = False,
    vram_limit_bytes: int | None = None,
    background: Path | None = None,
    cache: CacheFolder | None = None,
) -> Restorer:
    """Build a restorer.

    Args:
        weights: a known name ("compact", "gpen-bfr-512", …), the path of a `.pth` or
            `.safetensors` file, or `RESTORER:FILE` for a plug-in's.
        device: "auto", "cpu", "cuda" or "cuda:N"; "auto" takes a CUDA device if there is one.
        precision: "auto", "fp32", "fp16" or "bf16".
        folder: where downloaded weights lie, those of the detector, the face parser and the
            background included.
        accept_terms: True once the user has accepted the terms of weights that have some, or the
            words of those that he has; an acceptance recorded in the folder counts too.
        vram_limit_bytes: use no more of the device's memory.
        background: a background network's file; None takes the known one, if it is in the folder.
        cache: where restored faces are kept; None keeps none.

    Raises:
        CheckpointError: the weights can't be used: unknown, mismatched, corrupt, or their terms
            not accepted.
        DeviceError: the device isn't there.
        OutOfMemory: a single face doesn't fit on it.
    """
    model, restorer = _face_model(weights, folder=folder, accept_terms=accept_terms)
    chosen = pick_device(device)
    planner = MemoryPlanner(chosen, limit_bytes=vram_limit_bytes)
    turn = threading.Lock()
    parser = load_parser(chosen, folder=folder)
    forward = FaceForward(
        model,
        planner,
        wish=precision,
        turn=turn,
        cache=cache,
        beside_bytes=parser.needed_bytes if parser else 0,
    )
    scenery = load_background(
        chosen,
        path=background,
        folder=folder,
        precision=forward.plan.precision,
        tile_px=forward.plan.tile_px,
    )
    finder = Finder(load_detector(chosen, folder=folder), turn=turn)
    hashes = {"weights": model.sha256, "detector": finder.identity.sha256}
    if parser is not None:
        hashes["parser"] = parser.identity.sha256
    if scenery is not None:
        hashes["background"] = scenery.identity.sha256
    for sha256 in hashes.values():
        require_terms(sha256, accepted=accept_terms, folder=folder)
    return Restorer(
        restorer=restorer,
        forward=forward,
        finder=finder,
        device=chosen,
        turn=turn,
        parser=parser,
        background=scenery,
        terms={part: _terms(sha256, folder) for part, sha256 in hashes.items()},
    )


def _face_model(
    weights: str | Path, *, folder: Path | None, accept_terms: bool | str
) -> tuple[FaceModel, str]:
    """Return the face network of a name or file, and whose it is."""
    restorer, typed = restorers.split(weights)
    path, known = find_generator(typed, folder=folder)
    sha256 = hash_file(path, expected=known.sha256 if known else None)
    require_terms(sha256, accepted=accept_terms, folder=folder)
    file = WeightsFile(path, sha256, name_of(sha256))
    model = restorers.load(file, restorer=restorer)
    return model, restorers.describe(file, restorer=restorer)


def _terms(sha256: str, folder: Path | None) -> str:
    """Return the weights' terms, and how they were accepted where they have to be."""
    known = known_by_hash(sha256)
    if known is None:
        return "unknown: a file of the user's own"
    if not known.ask:
        return known.terms
    record = acceptance(folder, sha256)
    how = f"{record.how} at {record.accepted_at}" if record else "for this process"
    return f"{known.terms}; accepted: {how}"
