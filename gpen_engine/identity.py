"""Which engine, exactly: every hash and setting that decides pixels, for the sidecar."""

from collections.abc import Mapping
from dataclasses import dataclass, field

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
    restorer: str = "gpen, built in"
    """Whose face network it is: a plug-in with its distribution and version."""
    background_precision: Precision | None = None
    terms: Mapping[str, str] = field(default_factory=dict)
    """Of the weights, by part, and how they were accepted where they have to be."""
    threads: int | None = None
    """How many share the networks' work on a CPU, which moves last bits; None on a card."""
    instructions: str | None = None
    """The CPU's vector instructions, which do so too; None on a card."""
