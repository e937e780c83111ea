"""What only the control plane can find wrong; the rest of the tree is `jobs.errors`."""

from jobs.errors import Permanent, Transient


class DestinationOverlaps(Permanent):
    """The destination lies inside the source, around it, or is the source."""

    code = "destination.overlaps"
    advice = "Give a destination outside the source, and a source outside the destination."


class DestinationBusy(Transient):
    """Another `run` is working on this destination."""

    code = "destination.busy"
    advice = "Wait until the other run has ended, or stop it; then the same command goes on."


class DestinationTaken(Permanent):
    """Photos of the same source were delivered to this destination by another recipe."""

    code = "destination.taken"
    advice = "Choose another destination for this recipe: what was delivered is never written over."


class CodeUnknown(Permanent):
    """No failed photo of the job has this code."""

    code = "code.unknown"
    advice = "Give one of the codes that the message names, or none to retry them all."


class SystemRefused(Permanent):
    """The operating system refused a file or a folder."""

    code = "system.refused"
    advice = "Check the permissions of what the message names."


class InstallationIncomplete(Permanent):
    """The command needs a part of the distribution that isn't installed."""

    code = "install.incomplete"
    advice = "Install it, in a checkout of this project: pip install '.[worker,embedded]'."


class WeightsMissing(Permanent):
    """The weights were given as a file, and there is no such file; the engine has this code too."""

    code = "weights.missing"
    advice = "Check the name or the path: `gpen-archive weights list` shows the names."


class BrokerFailed(Transient):
    """The embedded broker didn't start, or died."""

    code = "broker.failed"
    advice = "Check free memory and disk with `gpen-archive doctor`, then run it again."


class WorkerStopped(Exception):
    """The embedded worker can't go on; code, words and advice are those of its own error."""

    def __init__(self, code: str, message: str, advice: str) -> None:
        super().__init__(message)
        self.code = code
        self.advice = advice


class WorkerFailed(Transient):
    """The embedded worker can't do its work, and doesn't say why."""

    code = "worker.failed"
    advice = "Check weights and device with `gpen-archive doctor`, then run it again."
