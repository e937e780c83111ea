"""Which engine, exactly: every hash and setting that decides pixels, for the sidecar."""

from dataclasses import dataclass

from gpen_engine.faces import ModelIdentity
from gpen_engine.precision import Precision


@dataclass(frozen=True, slots=True)
class EngineIdentity:
    """Everything about an engine that decides pixels, for the sidecar."""

    weights: str
    weights_sha256: str
    size: int
    detector: ModelIdentity
    device: str
    precision: Precision
    parser: ModelIdentity | None = None
    background: ModelIdentity | None = None
    terms: str = ""
    """How the terms of the weights were accepted, where they have some."""
