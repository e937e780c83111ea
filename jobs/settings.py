"""Where database, broker and object store are: from the environment, prefix `GPEN_`, or from files.

A secret may lie in a file of its own, named like its variable, in the folder where Docker and
Kubernetes show secrets, or in the one that GPEN_SECRETS_DIR names. The environment comes first.
"""

import os
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from jobs.errors import SettingsInvalid
from jobs.memory import MemoryClass

SECRETS_DIR = "GPEN_SECRETS_DIR"
_USUAL_SECRETS_DIR = Path("/run/secrets")


class JobSettings(BaseSettings):
    """What producer and worker share. Built once, at an entry point."""

    model_config = SettingsConfigDict(
        env_prefix="GPEN_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    database_url: SecretStr = SecretStr("sqlite:///gpen-archive.sqlite3")
    broker_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    s3_endpoint_url: str | None = None
    s3_region: str = "us-east-1"
    s3_access_key_id: SecretStr | None = None
    s3_secret_access_key: SecretStr | None = None
    lease_s: float = Field(default=300.0, gt=0)
    max_photo_s: float = Field(default=3600.0, gt=0)
    visibility_timeout_s: float = Field(default=3600.0, gt=0)
    max_attempts: int = Field(default=3, ge=1)
    window: int = Field(default=200, ge=1)
    queues: Annotated[tuple[MemoryClass, ...] | None, NoDecode, Field(min_length=1)] = None
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @field_validator("queues", mode="before")
    @classmethod
    def _split(cls, given: object) -> object:
        """Read `small,medium`."""
        return [name.strip() for name in given.split(",")] if isinstance(given, str) else given

    @field_validator("s3_endpoint_url")
    @classmethod
    def _holds_no_secret(cls, given: str | None) -> str | None:
        """Refuse a password where it would be shown."""
        if given and "@" in urlsplit(given).netloc:
            raise ValueError("give the key in GPEN_S3_ACCESS_KEY_ID and GPEN_S3_SECRET_ACCESS_KEY")
        return given

    @classmethod
    def from_environment(cls) -> "JobSettings":
        """Read the environment, and the files of secrets.

        Raises:
            SettingsInvalid: a value can't be used, or a file can't be read; the message names the
                variable, never its content.
        """
        try:
            return cls(_secrets_dir=_secrets_dir())  # type: ignore[call-arg]  # of BaseSettings
        except ValidationError as error:
            raise SettingsInvalid(describe(error)) from error
        except (OSError, SettingsError) as error:
            raise SettingsInvalid(str(error.__cause__ or error)) from error


def _secrets_dir() -> Path | None:
    named = os.environ.get(SECRETS_DIR)
    if not named:
        return _USUAL_SECRETS_DIR if _USUAL_SECRETS_DIR.is_dir() else None
    if not Path(named).is_dir():
        raise SettingsInvalid(f"{SECRETS_DIR}: there is no folder {named}")
    return Path(named)


def describe(error: ValidationError) -> str:
    """Say which variables are wrong and why, without their values, which may be secrets."""
    faults = (f"GPEN_{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors())
    return "; ".join(faults)
