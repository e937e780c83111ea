"""What a worker needs beside the services' addresses. Prefix `GPEN_`."""

import os
import secrets
import socket
from pathlib import Path
from typing import Literal

from pydantic import ByteSize, DirectoryPath, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from gpen_engine.devices import pick_device
from gpen_engine.memory import measure_budget
from gpen_engine.weights import default_folder
from jobs.errors import SettingsInvalid
from jobs.settings import describe
from worker.codec import Limits
from worker.decoding import Budget
from worker.scratch import MEMORY_BYTES, Scratch

_BYTES_A_LANE = 1 << 30
_MOST_LANES = 8


def _photos_in_hand() -> int:
    """Return how many photos keep the engine and the cores busy, as far as there is memory.

    One is with the engine, one on its way from or to a store, and one on each core that there is.
    """
    room = measure_budget(pick_device("cpu")).total_bytes // _BYTES_A_LANE
    return max(1, min(len(os.sched_getaffinity(0)) + 2, room, _MOST_LANES))


class WorkerSettings(BaseSettings):
    """One worker process. Built once, at an entry point."""

    model_config = SettingsConfigDict(env_prefix="GPEN_", frozen=True, extra="ignore")

    device: str = "auto"
    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    vram_limit: ByteSize | None = Field(default=None, gt=0)
    weights: str = "compact"
    weights_dir: Path | None = Field(default_factory=default_folder)
    background: Path | None = None
    accept_gpen_terms: bool = False
    face_cache: Path | None = None
    face_cache_limit: ByteSize = Field(default=ByteSize(4 << 30), gt=0)
    lanes: int = Field(default_factory=_photos_in_hand, ge=1)
    grace_s: float = Field(default=60.0, ge=0, allow_inf_nan=False)
    max_megapixels: float = Field(default=300.0, gt=0, allow_inf_nan=False)
    max_bytes: ByteSize = Field(default=ByteSize(4 << 30), gt=0)
    max_pages: int = Field(default=1000, gt=0)
    max_ratio: float = Field(default=1000.0, gt=0, allow_inf_nan=False)
    decode_s: float = Field(default=120.0, gt=0, allow_inf_nan=False)
    decode_memory: ByteSize = Field(default=ByteSize(8 << 30), gt=0)
    scratch: DirectoryPath | None = None
    scratch_memory: ByteSize = Field(default=ByteSize(MEMORY_BYTES), ge=0)
    worker_name: str = Field(
        default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    )

    @property
    def limits(self) -> Limits:
        """How much a file may have that is decoded."""
        pixels = max(1, int(self.max_megapixels * 1_000_000))
        return Limits(pixels, self.max_bytes, self.max_pages, self.max_ratio)

    @property
    def decode_budget(self) -> Budget:
        """What decoding one file may take."""
        return Budget(seconds=self.decode_s, memory_bytes=self.decode_memory)

    def make_scratch(self) -> Scratch:
        """Return room for large files: one for a process, whose lanes share it."""
        return Scratch(self.scratch, memory_bytes=self.scratch_memory)

    @classmethod
    def from_environment(cls, **given: object) -> "WorkerSettings":
        """Read the environment; what is given, and isn't None, comes first.

        Raises:
            SettingsInvalid: a value can't be used.
        """
        try:
            return cls.model_validate(
                {name: value for name, value in given.items() if value is not None}
            )
        except ValidationError as error:
            raise SettingsInvalid(describe(error)) from error
