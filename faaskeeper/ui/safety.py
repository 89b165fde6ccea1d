"""What is refused before anything is looked at, and the headers that every answer has.

* *Host*: only names by which the page is meant to be reached. A name of somebody else's that leads
  to this machine (DNS rebinding) is refused.
* *Origin*: what changes something must come from the page itself. Besides the cookie is SameSite,
  and such requests carry a header that no form can send, for which browsers ask first.
* *Content*: scripts, styles and connections are the page's own; nothing inline; nothing embeds it.
* *Login*: without one there are the form, its script and its style, and nothing else.
"""

from __future__ import annotations

import logging
import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, cookie_parser
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from faaskeeper.ui.logins import Logins
from faaskeeper.ui.settings import LOOPBACK, Settings

ASKED = "x-fk-ui"
"""The header of a request that changes something."""
PAGE = "x-fk-ui-page"
"""The header in which a page says which one it is: see ``Settings.page``."""
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:@/\[\]]+)(?::[0-9]{1,5})?")
_logger = logging.getLogger(__name__)
_OPEN = ("/login", "/static/login.js", "/static/style.css", "/static/icon.svg")
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


def cookie_name(settings: Settings) -> str:
    """The cookie's name; several pages on one machine share its cookies, whatever their ports."""
    return f"{'__Host-' if settings.https else ''}fk-ui-{settings.listen[1]}"


def host_of(header: str) -> str:
    """The name in a Host header, without its port and brackets; "" if it is none."""
    found = _HOST.fullmatch(header)
    return found[1].strip("[]").lower() if found else ""


class Safety:
    """ASGI middleware around the page."""

    def __init__(self, app: ASGIApp, settings: Settings, logins: Logins) -> None:
        self._app = app
        self._settings = settings
        self._logins = logins
        self._hosts = frozenset(each.lower() for each in settings.hosts)
        self._scheme = "https" if settings.https else "http"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        begun = False

        async def sent(message: Message) -> None:
            nonlocal begun
            begun = True
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                if self._settings.https and host_of(asked) not in LOOPBACK:  # it is for all ports of a name
                    headers["Strict-Transport-Security"] = "max-age=31536000"
            await send(message)

        asked = Headers(scope=scope).get("host", "")
        refusal = self._refusal(scope)
        try:
            await (refusal or self._app)(scope, receive, sent)
        except ClientDisconnect:
            pass
        except Exception:
            if begun:
                raise
            _logger.exception("a request of the page failed")
            await _no(500, "the page's server failed: its log says how", "failed")(scope, receive, sent)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if host_of(host) not in self._hosts:
            return _no(421, "this page is not reached by this name: add it with --host NAME")
        site = headers.get("sec-fetch-site", "same-origin")
        path, changes = scope["path"], scope["method"] not in ("GET", "HEAD")
        origin = headers.get("origin")
        if origin is not None and not self._own(origin, host):
            return _no(403, "the request comes from another page")
        if (changes or path.startswith("/api/")) and site not in ("same-origin", "none"):
            return _no(403, "the request comes from another page")
        if changes and headers.get(ASKED) != "1":
            return _no(403, f"a request that changes something needs the header {ASKED}")
        if changes and headers.get(PAGE, self._settings.page) != self._settings.page:
            return _no(
                409, "this page was loaded from another deployment, or one with other options: load it again"
            )
        cookie = cookie_parser(headers.get("cookie", "")).get(cookie_name(self._settings), "")
        visit = self._logins.of(cookie)
        if visit is None and path not in _OPEN:
            if path == "/":
                return RedirectResponse("/login", 303)
            return _no(401, "log in first")
        if visit is not None:
            state = scope.setdefault("state", {})
            for name in ("access", "follower", "index", "gauge"):
                state[name] = getattr(visit, name)
            state["valid"] = lambda: self._logins.good(cookie)
        return None

    def _own(self, origin: str, host: str) -> bool:
        """Whether an origin is the page's; a port that its scheme has anyway may be named or not."""
        scheme, _, place = origin.partition("://")
        usual = ":443" if scheme == "https" else ":80"
        return scheme == self._scheme and place.lower().removesuffix(usual) == host.lower().removesuffix(
            usual
        )


def _no(status: int, why: str, kind: str = "refused") -> Response:
    return JSONResponse({"error": why, "kind": kind}, status)
