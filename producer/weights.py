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
        identity: what the recipe says: a name that workers know, or a file's sha256.
        location: what a worker on this machine is told: the name, or the file's path.
    """

    identity: str
    location: str


def resolve(typed: str) -> Weights:
    """Tell a file from a name; a file is known by its content.

    Raises:
        WeightsMissing: it reads like a file, and there is none, or it can't be read.
    """
    path = Path(typed).expanduser()
    if not path.is_file():
        if path.suffix.lower() in _SUFFIXES or "/" in typed:
            raise WeightsMissing(f"there is no weights file {typed}")
        return Weights(identity=typed, location=typed)
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsMissing(f"the weights file {typed} can't be read: {error.strerror}") from error
    return Weights(identity=digest, location=str(path.resolve()))
