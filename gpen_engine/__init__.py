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
    RestorerUnavailable,
    TermsNotAccepted,
    WeightsFolderUnusable,
    WeightsMissing,
    WeightsNotHere,
    WeightsUnavailable,
)
from gpen_engine.faces import (
    Detail,
    Face,
    FaceOutcome,
    FacePolicy,
    Finish,
    LargeFaces,
    Lens,
    MaskKind,
    Reason,
    Treatment,
)
from gpen_engine.identity import EngineIdentity
from gpen_engine.restoration import Restoration
from gpen_engine.restorer import Restorer

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
    "Finish",
    "GpenError",
    "ImageError",
    "LargeFaces",
    "Lens",
    "MaskKind",
    "OutOfMemory",
    "Reason",
    "Restoration",
    "Restorer",
    "RestorerUnavailable",
    "TermsNotAccepted",
    "Treatment",
    "WeightsFolderUnusable",
    "WeightsMissing",
    "WeightsNotHere",
    "WeightsUnavailable",
    "load",
]
