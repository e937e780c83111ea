"""What the engine can say went wrong.

Each class has a stable `code`, listed in `docs/errors.md`, and a message that says what happened
and what to do. No face in a picture is a result, not an error.
"""

from typing import ClassVar


class GpenError(Exception):
    """Anything the engine raises on purpose."""

    code: ClassVar[str] = "engine.error"
    advice: ClassVar[str] = "Report this with the log: the engine has no name for what happened."


class CheckpointError(GpenError):
    """A weights file can't be used."""

    code = "weights.unusable"
    advice = "Check the path, or run `gpen-archive doctor` to see which weights are found."


class CheckpointUnknown(CheckpointError):
    """The file holds weights, but not those of a network that does this work."""

    code = "weights.unknown"
    advice = (
        "Give a weights file of a kind that docs/weights.md lists, or RESTORER:FILE for a "
        "plug-in's."
    )


class CheckpointMismatch(CheckpointError):
    """A checkpoint of a known network with missing, extra or wrongly shaped tensors."""

    code = "weights.mismatch"
    advice = (
        "The file belongs to another variant or was cut; fetch it again and compare its sha256."
    )


class CheckpointCorrupt(CheckpointError):
    """The file is unreadable, truncated, or its sha256 isn't the expected one."""

    code = "weights.corrupt"
    advice = "Fetch it again with `gpen-archive weights fetch`, or compare it with docs/weights.md."


class TermsNotAccepted(CheckpointError):
    """The weights may be used only under terms that nobody has accepted yet."""

    code = "weights.terms_not_accepted"
    advice = (
        "Read the terms in docs/weights.md; if you accept them, run `gpen-archive weights fetch "
        "NAME --accept-terms`, or for GPEN's set GPEN_ACCEPT_GPEN_TERMS=true."
    )


class RestorerUnavailable(CheckpointError):
    """A restorer isn't installed, or its plug-in is broken."""

    code = "restorer.unavailable"
    advice = "Install or repair what the message names; docs/restorers.md lists the restorers."


class WeightsUnavailable(CheckpointError):
    """The weights can't be fetched: the address doesn't answer, or answers with an error."""

    code = "weights.unavailable"
    advice = (
        "Check network and proxy, then fetch again: what came is kept. Or get the file yourself "
        "and run `gpen-archive weights import FILE`."
    )


class WeightsFolderUnusable(CheckpointError):
    """The weights folder can't be written or read, or is full."""

    code = "weights.folder_unusable"
    advice = "Free space, or name another folder with GPEN_WEIGHTS_DIR."


class WeightsMissing(CheckpointError):
    """No weights have this name, and there is no such file."""

    code = "weights.missing"
    advice = "Check the name or the path: `gpen-archive weights list` shows the names."


class WeightsNotHere(CheckpointError):
    """Weights that are asked for aren't in the weights folder."""

    code = "weights.not_here"
    advice = "`gpen-archive weights list` says what there is, `weights fetch NAME` gets it."


class ImageError(GpenError):
    """The array handed to the engine isn't an image it can restore."""

    code = "image.unsupported"
    advice = "See what the message asks for; pictures are (H, W, 3) uint8 or uint16 RGB arrays."


class DeviceError(GpenError):
    """The requested device can't be used."""

    code = "device.unavailable"
    advice = "Set GPEN_DEVICE=cpu, or check the driver with `gpen-archive doctor`."


class OutOfMemory(DeviceError):
    """The device ran out of memory during a forward pass."""

    code = "device.out_of_memory"
    advice = (
        "Close other programs on the device, raise --vram-limit if you set one, or restore on the "
        "CPU with GPEN_DEVICE=cpu."
    )
