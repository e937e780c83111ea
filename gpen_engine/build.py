"""`load(...)`: the only place where the engine's parts are wired together."""

from pathlib import Path

import torch

from gpen_engine.checkpoint import load_generator
from gpen_engine.detect import load_detector
from gpen_engine.errors import DeviceError
from gpen_engine.precision import choose
from gpen_engine.restorer import Restorer
from gpen_engine.weights import find_generator, require_terms

_DEVICES = ("cpu", "cuda")


def load(
    weights: str | Path = "compact",
    *,
    device: str = "auto",
    precision: str = "auto",
    folder: Path | None = None,
    accept_terms: bool = False,
) -> Restorer:
    """Build a restorer.

    Args:
        weights: a known name ("compact", "gpen-bfr-512", …) or the path of a `.pth` or
            `.safetensors` file.
        device: "auto", "cpu", "cuda" or "cuda:N"; "auto" takes a CUDA device if there is one.
        precision: "auto", "fp32" or "fp16" (autocast).
        folder: where downloaded weights lie, those of the detector included.
        accept_terms: True once the user has accepted the terms of weights that have some.

    Raises:
        CheckpointError: the weights can't be used: unknown, mismatched, corrupt, or their terms
            not accepted.
        DeviceError: the device isn't there.
    """
    path, known = find_generator(weights, folder=folder)
    generator = load_generator(path, expected_sha256=known.sha256 if known else None)
    require_terms(generator.sha256, accepted=accept_terms)
    chosen = pick_device(device)
    return Restorer(
        generator=generator,
        detector=load_detector(chosen, folder=folder),
        device=chosen,
        precision=choose(chosen, precision),
        name=known.name if known else path.name,
    )


def pick_device(device: str) -> torch.device:
    """Turn a wish into a device that works.

    Raises:
        DeviceError: the wish makes no sense or the device isn't there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.partition(":")[0] not in _DEVICES:
        raise DeviceError(f"the device {device!r} can't be used: choose auto, cpu, cuda or cuda:N")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DeviceError(f"the device {device!r} can't be used: {first}") from error
    return chosen
