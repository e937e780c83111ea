"""An object store with an identity for each policy of deploy/policies, and two buckets for them."""

import json
from pathlib import Path

from deploy.seaweedfs import SeaweedFS
from deploy.server import keep_secret, write_private
from jobs.settings import JobSettings

MASTERS, DERIVATIVES = "masters", "derivatives"
POLICIES = Path(__file__).resolve().parents[1] / "deploy" / "policies"
NAMES = sorted(path.stem for path in POLICIES.glob("*.json"))


class Governed(SeaweedFS):
    """SeaweedFS with an owner, who may do everything, and those who may do what a policy says."""

    def keys(self, name: str) -> dict[str, str]:
        """Return the settings with which somebody comes in."""
        return {
            "GPEN_S3_ENDPOINT_URL": self.endpoint_url,
            "GPEN_S3_ACCESS_KEY_ID": keep_secret(self.folder / f"{name}.id"),
            "GPEN_S3_SECRET_ACCESS_KEY": keep_secret(self.folder / f"{name}.secret"),
        }

    def settings(self, name: str) -> JobSettings:
        """Return the same for a store."""
        keys = self.keys(name).items()
        return JobSettings.model_validate(
            {key.removeprefix("GPEN_").lower(): value for key, value in keys}
        )

    def command(self) -> list[str]:
        """Write down who may do what."""
        owner = {"accessKey": self.access_key, "secretKey": self.secret_key}
        rights = ["Admin", "Read", "Write", "List"]
        identities = [
            {"name": "owner", "credentials": [owner], "actions": rights},
            *map(self._identity, NAMES),
        ]
        policies = [{"name": name, "content": _policy(name)} for name in NAMES]
        text = json.dumps({"identities": identities, "policies": policies})
        return [*super().command(), f"-s3.config={write_private(self.folder / 's3.json', text)}"]

    def _identity(self, name: str) -> dict[str, object]:
        keys = self.keys(name)
        known = {
            "accessKey": keys["GPEN_S3_ACCESS_KEY_ID"],
            "secretKey": keys["GPEN_S3_SECRET_ACCESS_KEY"],
        }
        return {"name": name, "credentials": [known], "policyNames": [name]}


def _policy(name: str) -> str:
    text = (POLICIES / f"{name}.json").read_text()
    return text.replace("MASTERS", MASTERS).replace("DERIVATIVES", DERIVATIVES)
