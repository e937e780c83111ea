"""Where database, broker and object store are: from the environment, prefix `GPEN_`."""

from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from jobs.errors import SettingsInvalid
from jobs.memory import MemoryClass


class JobSettings(BaseSettings):
    """What producer and worker share. Built once, at an entry point."""

    model_config = SettingsConfigDict(env_prefix="GPEN_", frozen=True, extra="ignore")

    database_url: SecretStr = SecretStr("sqlite:///gpen-archive.sqlite3")
    broker_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    s3_endpoint_url: str | None = None
    s3_region: str = "us-east-1"
    s3_access_key_id: SecretStr | None = None
    s3_secret_access_key: SecretStr | None = None
    lease_s: float = Field(default=300.0, gt=0)
    max_photo_s: float = Field(default=3600.0, gt=0)
    max_attempts: int = Field(default=3, ge=1)
    window: int = Field(default=200, ge=1)
    queues: Annotated[tuple[MemoryClass, ...], NoDecode, Field(min_length=1)] = tuple(MemoryClass)
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @field_validator("queues", mode="before")
    @classmethod
    def _split(cls, given: object) -> object:
        """Read `small,medium`."""
        return [name.strip() for name in given.split(",")] if isinstance(given, str) else given

    @classmethod
    def from_environment(cls) -> "JobSettings":
        """Read the environment.

        Raises:
            SettingsInvalid: a value can't be used; the message names the variable, never its
                content.
        """
        try:
            return cls()
        except ValidationError as error:
            raise SettingsInvalid(describe(error)) from error


def describe(error: ValidationError) -> str:
    """Say which variables are wrong and why, without their values, which may be secrets."""
    faults = (f"GPEN_{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors())
    return "; ".join(faults)
