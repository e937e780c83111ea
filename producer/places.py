"""Where photos come from and go to: what was typed goes in, one spelling for one place comes out.

A place is an absolute directory without symbolic links, or `s3://bucket/prefix` without slashes at
its end, so that the same command, typed from another directory, means the same job.
"""

from pathlib import Path, PurePosixPath

from producer.errors import DestinationOverlaps

_S3 = "s3://"


def is_s3(place: str) -> bool:
    """Tell whether `place` is in an object store rather than a directory."""
    return place.startswith(_S3)


def normalize(typed: str) -> str:
    """Return the one spelling of a place that was typed."""
    if is_s3(typed):
        return _S3 + "/".join(part for part in typed.removeprefix(_S3).split("/") if part)
    return str(Path(typed).expanduser().resolve())


def check_apart(source: str, destination: str) -> None:
    """Refuse places of which one contains the other; both are normalized.

    Raises:
        DestinationOverlaps: derivatives would appear among the masters, or masters among them.
    """
    inside, around = _parts(destination), _parts(source)
    if inside == around:
        raise DestinationOverlaps(f"source and destination are the same: {source}")
    if _contains(around, inside):
        raise DestinationOverlaps(f"the destination {destination} is inside the source {source}")
    if _contains(inside, around):
        raise DestinationOverlaps(f"the source {source} is inside the destination {destination}")


def name_for(source: str) -> str:
    """Name a job after the last part of its source."""
    return _parts(source)[-1].strip("/") or source


def _parts(place: str) -> tuple[str, ...]:
    if is_s3(place):
        return (_S3, *place.removeprefix(_S3).split("/"))
    return PurePosixPath(place).parts


def _contains(outer: tuple[str, ...], inner: tuple[str, ...]) -> bool:
    return inner[: len(outer)] == outer
