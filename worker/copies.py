"""Copies of what lies in a store, to look at here: a store and a key in, a scratch file out."""

from jobs.storage import ObjectStore
from worker.codec.limits import Limits, check_file
from worker.codec.stored import FileBytes
from worker.scratch import Scratch, writing


def fetch(
    store: ObjectStore, key: str, *, scratch: Scratch, limits: Limits | None = None
) -> FileBytes:
    """Return an object's bytes, unless there are too many.

    Args:
        store: where it is; only read.
        key: its name.
        scratch: room for it.
        limits: objects with more bytes aren't fetched; None fetches any.

    Raises:
        PhotoMissing: there is no such object.
        PhotoTooLarge: it has more bytes than `limits` say.
        ScratchFull: there is no room for it.
        StoreUnavailable: the store doesn't answer.
    """
    found = store.head(key)
    size_bytes = found.size_bytes if found is not None else 0
    if limits is not None:
        check_file(size_bytes, limits=limits)
    file = scratch.file(size_bytes)
    with writing(size_bytes):
        store.fetch(key, file)
        return FileBytes(file)
