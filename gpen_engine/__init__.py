"""The GPEN engine: arrays in, arrays out. It knows no queue, no SQL, no S3 and no settings."""

from gpen_engine.build import load
from gpen_engine.errors import (
    CheckpointCorrupt,
    CheckpointError,
    CheckpointMismatch,
    CheckpointUnknown,
    DeviceError,
    GpenError,
    ImageError,
    OutOfMemory,
    TermsNotAccepted,
)
from gpen_engine.faces import Detail, Face, FaceOutcome, FacePolicy, Reason, Restoration
from gpen_engine.restorer import EngineIdentity, Restorer

__all__ = [
    "CheckpointCorrupt",
    "CheckpointError",
    "CheckpointMismatch",
    "CheckpointUnknown",
    "Detail",
    "DeviceError",
    "EngineIdentity",
    "Face",
    "FaceOutcome",
    "FacePolicy",
    "GpenError",
    "ImageError",
    "OutOfMemory",
    "Reason",
    "Restoration",
    "Restorer",
    "TermsNotAccepted",
    "load",
]
