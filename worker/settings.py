"""What a worker needs beside the services' addresses. Prefix `GPEN_`."""

import os
import socket
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from jobs.errors import SettingsInvalid
from jobs.settings import describe


class WorkerSettings(BaseSettings):
    """One worker process. Built once, at an entry point."""

    model_config = SettingsConfigDict(env_prefix="GPEN_", frozen=True, extra="ignore")

    device: str = "auto"
    precision: Literal["auto", "fp32", "fp16"] = "auto"
    weights: str = "compact"
    weights_dir: Path | None = None
    accept_gpen_terms: bool = False
    lanes: int = Field(default=2, ge=1)
    max_megapixels: float = Field(default=300.0, gt=0)
    worker_name: str = Field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}")

    @property
    def max_pixels(self) -> int:
        """Pixels of the largest picture that is decoded."""
        return int(self.max_megapixels * 1_000_000)

    @classmethod
    def from_environment(cls) -> "WorkerSettings":
        """Read the environment.

        Raises:
            SettingsInvalid: a value can't be used.
        """
        try:
            return cls()
        except ValidationError as error:
            raise SettingsInvalid(describe(error)) from error
