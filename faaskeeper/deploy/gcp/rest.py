"""Google Cloud's administration by HTTP, for what needs no library of its own."""

from __future__ import annotations

from typing import Any

import requests
from google.auth.transport.requests import AuthorizedSession

from faaskeeper.core.errors import Denied, Unavailable
from faaskeeper.providers.gcp.clients import Gcp

_TIMEOUT_S = 20.0


class Rest:
    """Calls of one project. ``endpoint``: a stand-in for Google's hosts, without credentials ("": those)."""

    def __init__(self, gcp: Gcp, endpoint: str = "") -> None:
        self._gcp = gcp
        self._endpoint = endpoint
        self._session: requests.Session | None = None

    def call(self, service: str, path: str, *, body: Any = None) -> tuple[Any, str]:
        """The answer and its date; with a body it is a POST. ``service``: the host's first name.

        Raises Denied if the project refuses it or lacks something, else Unavailable.
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
            kind = Unavailable if answer.status_code >= 500 else Denied
            raise kind(f"{service}: {answer.status_code}: {_reason(answer)}")
        return answer.json(), answer.headers.get("Date", "")

    def close(self) -> None:
        """Close its connections."""
        if self._session is not None:
            self._session.close()


def _reason(answer: requests.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return str(answer.reason)
