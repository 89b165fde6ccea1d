"""Google Cloud's administrative REST APIs, where a client library would be too much."""

from __future__ import annotations

from typing import Any

import requests
from google.auth.transport.requests import AuthorizedSession

from faaskeeper.core.errors import Denied, DriverError, Unavailable
from faaskeeper.providers.gcp.clients import Gcp

_TIMEOUT_S = 20.0


class Missing(Denied):
    """There is no such resource."""


class Rest:
    """REST calls for one project.

    ``endpoint``: replaces Google's hosts and needs no credentials, if set.
    """

    def __init__(self, gcp: Gcp, endpoint: str = "") -> None:
        self._gcp = gcp
        self._endpoint = endpoint
        self._session: requests.Session | None = None

    def call(self, service: str, path: str, *, body: Any = None) -> tuple[Any, str]:
        """Make a request, a POST if there is a body; returns the answer and its date.

        ``service``: the first component of the host name. Raises Denied if the project refuses the
        request or lacks a prerequisite, Missing if there is no such resource, otherwise Unavailable.
        """
        return self._gcp.call(f"{service} {path.split('?')[0]}", lambda: self._call(service, path, body))  # type: ignore[no-any-return]

    def _call(self, service: str, path: str, body: Any) -> tuple[Any, str]:
        if self._session is None:
            if self._endpoint:
                self._session = requests.Session()
            else:
                self._session = AuthorizedSession(self._gcp.credentials())
        host = f"{self._endpoint}/{service}" if self._endpoint else f"https://{service}.googleapis.com"
        verb = "GET" if body is None else "POST"
        answer = self._session.request(verb, f"{host}/{path}", json=body, timeout=_TIMEOUT_S)
        if answer.status_code >= 400:
            kind: type[DriverError] = Unavailable if answer.status_code >= 500 else Denied
            if answer.status_code == 404:
                kind = Missing
            raise kind(f"{service}: {answer.status_code}: {_reason(answer)}")
        return answer.json(), answer.headers.get("Date", "")

    def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            self._session.close()


def _reason(answer: requests.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return str(answer.reason)
