"""Which weights are meant: what was typed goes in, what recipe and worker call them comes out."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from producer.errors import WeightsMissing

_SUFFIXES = frozenset({".pth", ".pt", ".ckpt", ".safetensors"})


@dataclass(frozen=True, slots=True)
class Weights:
    """One set of weights under its two names.

    Attributes:
        identity: what the recipe says: a name that workers know, in lower case, or a file's
            sha256.
        location: what a worker on this machine is told: the name, or the file's path, after the
            restorer and a colon where one was given.
    """

    identity: str
    location: str


def resolve(typed: str) -> Weights:
    """Tell a file from a name; a file is known by its content, a name in any case.

    Args:
        typed: a name, a file, or `RESTORER:FILE` for a plug-in's network. Which restorers there
            are, only workers know.

    Raises:
        WeightsMissing: it reads like a file, and there is none, or it can't be read.
    """
    restorer, path = _split(typed)
    if not path.is_file():
        if path.suffix.lower() in _SUFFIXES or "/" in typed:
            raise WeightsMissing(f"there is no weights file {typed}")
        return Weights(identity=typed.lower(), location=typed)
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsMissing(f"the weights file {typed} can't be read: {error.strerror}") from error
    location = str(path.resolve())
    return Weights(identity=digest, location=f"{restorer}:{location}" if restorer else location)


def _split(typed: str) -> tuple[str, Path]:
    """Split `RESTORER:FILE` where there is such a file; else the colon belongs to the path."""
    whole = Path(typed).expanduser()
    restorer, _, file = typed.partition(":")
    if restorer and file and "/" not in restorer and not whole.is_file():
        path = Path(file).expanduser()
        if path.is_file():
            return restorer, path
    return "", whole
