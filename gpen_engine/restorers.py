"""Face networks by name: GPEN itself, and what plug-ins add by entry point.

In: a weights file that may be used, and the name of a restorer. Out: a `FaceModel`. A plug-in is an
entry point in the group `gpen_archive.restorers` (docs/restorers.md). It is imported when it is
asked for: one that is broken stops nobody else.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import torch

from gpen_engine.checkpoint import load_generator
from gpen_engine.errors import CheckpointUnknown, GpenError, RestorerUnavailable
from gpen_engine.networks import FaceModel, FaceNetwork, GpenModel
from gpen_engine.precision import Precision
from gpen_engine.weights import CODEFORMER_0_1_0, GFPGAN_1_4

GROUP = "gpen_archive.restorers"
GPEN = "gpen"

_RESTORER_OF = {GFPGAN_1_4.sha256: "gfpgan", CODEFORMER_0_1_0.sha256: "codeformer"}
_PROMISED = ("name", "sha256", "template", "input_size", "size", "on")
_PROMISED_ON_DEVICE = (
    "input_size",
    "size",
    "precision",
    "weights_bytes",
    "activation_bytes",
    "__call__",
)


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """A weights file that may be used: found, hashed, its terms accepted.

    Attributes:
        path: the file.
        sha256: its hash in hexadecimal.
        name: what sidecars and sheets call it.
    """

    path: Path
    sha256: str
    name: str


Factory = Callable[[WeightsFile], FaceModel]
"""What an entry point names.

It reads the file, on the CPU and in float32, and returns its network. Of the engine's errors it
raises CheckpointUnknown for another network's file and CheckpointMismatch for one that is cut.
"""


def names() -> tuple[str, ...]:
    """Return the names of all restorers installed here, GPEN's first; none is imported."""
    return (GPEN, *sorted({entry.name for entry in entry_points(group=GROUP)} - {GPEN}))


def find(name: str) -> Factory:
    """Return the factory of a restorer.

    Raises:
        RestorerUnavailable: there is none of this name, there are two, or it can't be imported.
    """
    return _factory_of(name)[0]


def split(weights: str | Path) -> tuple[str | None, str]:
    """Split `codeformer:face.pth` into the restorer and the file; without one, it is None.

    Only the name of an installed restorer counts: any other colon belongs to the file.
    """
    restorer, colon, file = str(weights).partition(":")
    if colon and restorer in names():
        return restorer, file
    return None, str(weights)


def load(weights: WeightsFile, *, restorer: str | None = None) -> FaceModel:
    """Load a weights file as the face network that it holds.

    Args:
        weights: the file.
        restorer: whose it is; None takes it from the hashes of known files, and the rest for
            GPEN's.

    Returns:
        The model. Its `on` raises RestorerUnavailable where it makes what is no face network.

    Raises:
        CheckpointError: the restorer isn't there or is broken, or the file isn't what it expects.
    """
    name = restorer or _restorer_of(weights)
    factory, origin = _factory_of(name)
    try:
        model = factory(weights)
    except CheckpointUnknown as error:
        if restorer is not None:
            raise
        others = ", ".join(names()[1:]) or "none installed"
        raise CheckpointUnknown(
            f"{error}; for a plug-in's network give RESTORER:FILE ({others})"
        ) from error
    except GpenError:
        raise
    except Exception as error:
        raise RestorerUnavailable(
            f"the restorer {name!r} ({origin}) failed at {weights.path.name}: {_said(error)}"
        ) from error
    return _checked(model, weights, f"the restorer {name!r} ({origin})")


def describe(weights: WeightsFile, *, restorer: str | None = None) -> str:
    """Return the restorer of a weights file and where it comes from, for sidecars.

    Raises:
        RestorerUnavailable: it isn't there, or can't be imported.
    """
    name = restorer or _restorer_of(weights)
    return f"{name}, {_factory_of(name)[1]}"


def _restorer_of(weights: WeightsFile) -> str:
    return _RESTORER_OF.get(weights.sha256, GPEN)


class _CheckedModel:
    """A restorer's face model, whose networks are checked when they are made.

    Args:
        model: the restorer's own.
        who: names the restorer and where it comes from.
    """

    def __init__(self, model: FaceModel, who: str) -> None:
        self._model = model
        self._who = who
        self.name = model.name
        self.sha256 = model.sha256
        self.template = model.template
        self.input_size = model.input_size
        self.size = model.size

    def on(self, device: torch.device, precision: Precision) -> FaceNetwork:
        """Return the network on a device, ready to run.

        Raises:
            RestorerUnavailable: it lacks what the engine will ask it for.
        """
        network = self._model.on(device, precision)
        lacking = _lacking(network, _PROMISED_ON_DEVICE)
        if lacking:
            raise RestorerUnavailable(
                f"{self._who} made no face network: it lacks {', '.join(lacking)}"
            )
        return network


def _gpen(weights: WeightsFile) -> FaceModel:
    generator = load_generator(weights.path, expected_sha256=weights.sha256)
    return GpenModel(generator, name=weights.name)


def _factory_of(name: str) -> tuple[Factory, str]:
    """Return a restorer's factory and the distribution that it comes from."""
    if name == GPEN:
        return _gpen, "built in"
    entries = list(entry_points(group=GROUP, name=name))
    if not entries:
        raise RestorerUnavailable(f"no restorer is called {name!r}; there are {', '.join(names())}")
    origins = sorted({_origin(entry) for entry in entries})
    if len(origins) > 1:
        raise RestorerUnavailable(f"several restorers are called {name!r}: {' and '.join(origins)}")
    try:
        factory = entries[0].load()
    except Exception as error:
        raise RestorerUnavailable(
            f"the restorer {name!r} ({origins[0]}) can't be imported: {_said(error)}"
        ) from error
    if not callable(factory):
        raise RestorerUnavailable(
            f"the restorer {name!r} ({origins[0]}): {entries[0].value} isn't callable"
        )
    return factory, origins[0]


def _checked(model: FaceModel, weights: WeightsFile, who: str) -> FaceModel:
    """Refuse what only looks like a face model, before a sidecar repeats its word.

    A `Protocol` is checked by whoever writes the plug-in; whoever installs it sees only this.
    """
    lacking = _lacking(model, _PROMISED)
    if lacking:
        raise RestorerUnavailable(f"{who} returned no face model: it lacks {', '.join(lacking)}")
    if model.sha256 != weights.sha256:
        raise RestorerUnavailable(
            f"{who} says that {weights.path.name} has another hash than it has"
        )
    return _CheckedModel(model, who)


def _lacking(made: object, promised: tuple[str, ...]) -> list[str]:
    return [attribute for attribute in promised if not hasattr(made, attribute)]


def _origin(entry: EntryPoint) -> str:
    if entry.dist is None:
        return entry.value
    return f"{entry.dist.name} {entry.dist.version}"


def _said(error: Exception) -> str:
    first = str(error).splitlines()[0] if str(error) else ""
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
