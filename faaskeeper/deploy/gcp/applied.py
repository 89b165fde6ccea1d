"""What was applied last: the template's variables, beside the code in the deployment's bucket.

Updating only the code needs them, because Terraform sets every variable anew, and clients'
configurations do not have all. Clients cannot read the bucket.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from google.api_core.exceptions import NotFound

from faaskeeper.exceptions import ProviderException
from faaskeeper.providers.gcp.clients import Gcp

_NAME = "applied.json"
_CODE = "code_object"
_MOST = 10
"""Number of codes that are remembered."""


class Applied:
    """The record in a bucket of what was applied."""

    def __init__(self, gcp: Gcp, bucket: str, deployment: str) -> None:
        self._gcp = gcp
        self._bucket = bucket
        self._deployment = deployment

    def _blob(self) -> Any:
        return self._gcp.storage().bucket(self._bucket).blob(_NAME)

    def _read(self) -> dict[str, Any]:
        def read() -> bytes:
            try:
                found: bytes = self._blob().download_as_bytes(retry=self._gcp.retry)
            except NotFound:
                return b"{}"
            return found

        record: dict[str, Any] = json.loads(self._gcp.call(f"{_NAME} of {self._bucket}", read))
        return record

    def variables(self) -> dict[str, Any]:
        """The variables of the last complete deployment. Raises ProviderException if they are unknown."""
        found: dict[str, Any] = self._read().get("variables", {})
        if not found:
            raise ProviderException(
                f"what {self._deployment} was deployed with is not recorded: run 'fk deploy service' once"
            )
        return found

    def former_code(self) -> str:
        """The code from before the present one. Raises ProviderException if there is none."""
        codes: list[str] = self._read().get("codes", [])
        if len(codes) < 2:
            raise ProviderException(f"there is no earlier code of {self._deployment}")
        return codes[-2]

    def record(self, variables: Mapping[str, Any]) -> None:
        """Remember what has been applied. Going back to an earlier code forgets the later ones."""
        code = variables[_CODE]
        codes: list[str] = self._read().get("codes", [])
        codes = codes[: codes.index(code)] if code in codes else codes
        body = json.dumps({"variables": dict(variables), "codes": [*codes, code][-_MOST:]}, indent=2)

        def write() -> None:
            self._blob().upload_from_string(body, content_type="application/json", retry=self._gcp.retry)

        self._gcp.call(f"{_NAME} of {self._bucket}", write)
