"""What can go wrong with a job or a photo, and what to do about it.

Every class has a stable `code`, which is stored in the ledger, and `advice` for the person who
reads it; both are listed in `docs/errors.md`. Three kinds decide what happens next: a `Transient`
error is tried again, a `Permanent` one fails the photo or refuses the command, `ClaimLost` means
that somebody else has the photo now.
"""

from typing import ClassVar


class JobError(Exception):
    """Anything the pipeline raises on purpose."""

    code: ClassVar[str] = "job.error"
    advice: ClassVar[str] = "Report this with the log: the pipeline has no name for what happened."


class Transient(JobError):
    """A later try may succeed."""


class StoreUnavailable(Transient):
    """The object store doesn't answer, or answers with an error of its own."""

    code = "store.unavailable"
    advice = "Check endpoint and network. It was tried for half an hour; then retry with this code."


class StoreFull(Transient):
    """The destination has no room left."""

    code = "store.full"
    advice = "Free space at the destination, then start the worker, or the run, again."


class DatabaseUnavailable(Transient):
    """The ledger's database doesn't answer."""

    code = "database.unavailable"
    advice = "Check GPEN_DATABASE_URL or --at: the database must run, be migrated and be writable."


class BrokerUnavailable(Transient):
    """The broker doesn't answer."""

    code = "broker.unavailable"
    advice = "Check GPEN_BROKER_URL and that Valkey or Redis runs."


class DecoderUnavailable(Transient):
    """The process that decodes files can't be started."""

    code = "decoder.unavailable"
    advice = "Check free memory, and the limits on processes and open files; the log has its words."


class ScratchFull(Transient):
    """There is no room for what a worker lays aside while it works on a large file."""

    code = "scratch.full"
    advice = "Free space in the worker's GPEN_SCRATCH folder, or name one with more room."


class WeightsUnavailable(Transient):
    """The recipe asks for weights that this worker doesn't hold."""

    code = "recipe.weights_unavailable"
    advice = "Start a worker with the recipe's weights (GPEN_WEIGHTS), then retry with this code."


class Permanent(JobError):
    """Trying again gives the same result."""


class PhotoMissing(Permanent):
    """There is no such file where the master should be."""

    code = "photo.missing"
    advice = "Put the master back, then retry with this code; or name the job's own source folder."


class PhotoUnreadable(Permanent):
    """The master is there and may not, or can't, be read."""

    code = "photo.unreadable"
    advice = "Check the file's permissions and the disk, then retry with this code."


class PhotoEmpty(Permanent):
    """The file has no bytes."""

    code = "photo.empty"
    advice = "Copy the master again from its source."


class PhotoUnsupported(Permanent):
    """The file isn't a picture, or is one of a kind that can't be restored faithfully."""

    code = "photo.unsupported"
    advice = "docs/formats.md lists what is read; convert a copy to TIFF, PNG or JPEG."


class PhotoTruncated(Permanent):
    """The file ends before the picture does."""

    code = "photo.truncated"
    advice = "Copy the master again from its source; a part of the picture is missing."


class PhotoCorrupt(Permanent):
    """The file's content is damaged."""

    code = "photo.corrupt"
    advice = "Copy the master again from its source and compare checksums."


class PhotoTooLarge(Permanent):
    """The file has, or decoding it takes, more of something than this worker allows."""

    code = "photo.too_large"
    advice = "If the size is genuine, raise the limit that the message names, given the memory."


class PhotoDecoderCrashed(Permanent):
    """The decoder, which is a process of its own, died of this file."""

    code = "photo.decoder_crashed"
    advice = "Copy the master again from its source; if it is sound, report this with the file."


class PhotoDecoderTimeout(Permanent):
    """Decoding takes longer than it may."""

    code = "photo.decoder_timeout"
    advice = "If the file is sound and large, or the machine busy, raise GPEN_DECODE_S and retry."


class PhotoCrashesWorker(Permanent):
    """Worker after worker died, or lost its lease, with this photo in hand."""

    code = "photo.crashes_worker"
    advice = "Look at the worker's log; try this photo alone with `gpen-archive restore`."


class PhotoOutOfMemory(Permanent):
    """The worker had too little memory for this photo, at every attempt in the largest class."""

    code = "photo.out_of_memory"
    advice = "Give a worker more memory, or fewer lanes (GPEN_LANES), then retry with this code."


class PhotoUnexpected(Permanent):
    """Something that nobody foresaw went wrong with this photo, at every attempt."""

    code = "photo.unexpected"
    advice = "Report this with the worker's log and, if you may, the file."


class OutputConflict(Permanent):
    """Another object already has the derivative's name."""

    code = "output.conflict"
    advice = "Nothing is overwritten: choose an empty destination, or remove the object it names."


class OutputUnfaithful(Permanent):
    """The derivative would differ from its master where nothing may, so it wasn't stored."""

    code = "output.unfaithful"
    advice = "Report this with the log and, if you may, the master: it is a fault of the program."


class OutputDamaged(Permanent):
    """A sidecar can't be read, or its seal is broken."""

    code = "output.damaged"
    advice = "Fetch the sidecar from a backup; `gpen-archive verify` says what else is damaged."


class OutputNotReproducible(Permanent):
    """A derivative can't be made again from what its sidecar names."""

    code = "output.not_reproducible"
    advice = "Give the very master and weights whose sha256 the sidecar names, if you have them."


class UnsafeKey(Permanent):
    """A key would lead outside the source or the destination."""

    code = "key.unsafe"
    advice = "Rename the file: no `..`, no leading slash, no control characters."


class SourceMissing(Permanent):
    """What a command should read doesn't exist, can't be read, or is a file for a folder."""

    code = "source.missing"
    advice = "Check the path, and that you may read what is there."


class DestinationUnusable(Permanent):
    """The destination can't be written, or overlaps with the source."""

    code = "destination.unusable"
    advice = "Give a writable directory or s3://bucket/prefix outside the source."


class DestinationExists(DestinationUnusable):
    """A file or folder that a command would write is there already."""

    code = "destination.exists"
    advice = "Give another name, or move away what is there: nothing is overwritten."


class JobUnknown(Permanent):
    """No job has this id or name."""

    code = "job.unknown"
    advice = "List the jobs with `gpen-archive status`, those of a `run` with `--at DST`."


class SettingsInvalid(Permanent):
    """A setting is missing or makes no sense."""

    code = "settings.invalid"
    advice = "Compare your environment with .env.example."


class ClaimLost(JobError):
    """The lease ran out and the photo belongs to somebody else now."""

    code = "claim.lost"
    advice = "Nothing to do: another worker delivers it. If it happens often, raise GPEN_LEASE_S."
