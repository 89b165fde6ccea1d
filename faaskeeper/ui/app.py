"""The application: its routes. With ``read_only`` there is none that writes to the deployment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from faaskeeper.ui import changes, locks, nodes, past, service
from faaskeeper.ui.access import ERRORS, error_of, json_in
from faaskeeper.ui.events import events
from faaskeeper.ui.index import search
from faaskeeper.ui.logins import Logins, TooOften
from faaskeeper.ui.safety import Safety, cookie_name
from faaskeeper.ui.settings import Settings

_LOGIN_BYTES = 10_000
_SWEEP_S = 60.0
STATIC = Path(__file__).parent / "static"


def _page(name: str) -> Callable[[Request], Awaitable[Response]]:
    async def page(request: Request) -> Response:
        return FileResponse(STATIC / name, media_type="text/html")

    return page


async def _login(request: Request) -> Response:
    """Route: the cookie for a token, or for digest credentials."""
    settings, logins = request.app.state.settings, request.app.state.logins
    given = await json_in(request, _LOGIN_BYTES)
    user, secret = given.get("user", ""), given.get("secret", "")
    if not (isinstance(user, str) and isinstance(secret, str)):
        return JSONResponse({"error": "give a user and a secret as text", "kind": "invalid"}, 400)
    try:
        before = request.cookies.get(cookie_name(settings), "")
        cookie = await run_in_threadpool(logins.enter, user, secret, _address(request), before)
    except TooOften:
        text = "too many attempts failed: try again in a minute"
        return JSONResponse({"error": text, "kind": "refused"}, 429)
    if cookie is None:
        text = "this is not the token" if settings.token else "these credentials do not open this page"
        return JSONResponse({"error": text, "kind": "refused"}, 401)
    answer = JSONResponse({})
    answer.set_cookie(
        cookie_name(settings), cookie, secure=settings.https, httponly=True, samesite="strict", path="/"
    )
    return answer


def _address(request: Request) -> str:
    """Whose guesses these are. A proxy appends who asked it; what stands before that, anybody wrote."""
    told = ",".join(request.headers.getlist("x-forwarded-for")).rpartition(",")[2].strip()
    if told and request.app.state.settings.proxied:
        return told
    return request.client.host if request.client else ""


async def _logout(request: Request) -> Response:
    settings, logins = request.app.state.settings, request.app.state.logins
    name = cookie_name(settings)
    await run_in_threadpool(logins.leave, request.cookies.get(name, ""))
    answer = JSONResponse({})
    answer.delete_cookie(name, path="/", secure=settings.https, httponly=True, samesite="strict")
    return answer


def _routes(settings: Settings) -> list[BaseRoute]:
    found: list[BaseRoute] = [
        Route("/", _page("index.html")),
        Route("/api/me", nodes.me),
        Route("/api/node", nodes.node),
        Route("/api/children", nodes.children),
        Route("/api/rows", nodes.rows),
        Route("/api/download", nodes.download),
        Route("/api/search", search),
        Route("/api/events", events),
        Route("/api/past/range", past.span),
        Route("/api/past/node", past.node),
        Route("/api/past/children", past.children),
        Route("/api/past/history", past.history),
        Route("/api/past/moment", past.moment),
        Route("/api/past/download", past.download),
        Route("/api/sessions", locks.sessions),
        Route("/api/locks", locks.locks),
        Route("/api/contenders", locks.contenders_of),
        Route("/api/service", service.service),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    if settings.login:
        found += [
            Route("/login", _page("token.html" if settings.token else "digest.html")),
            Route("/login", _login, methods=["POST"]),
            Route("/logout", _logout, methods=["POST"]),
        ]
    if not settings.read_only:
        found += [
            Route("/api/node", changes.put, methods=["PUT"]),
            Route("/api/node", changes.create, methods=["POST"]),
            Route("/api/node", changes.delete, methods=["DELETE"]),
            Route("/api/acl", changes.set_acl, methods=["PUT"]),
            Route("/api/transaction/preview", changes.preview, methods=["POST"]),
            Route("/api/transaction", changes.commit, methods=["POST"]),
            Route("/api/past/restore", changes.restore, methods=["POST"]),
            Route("/api/sessions/end", changes.end_session, methods=["POST"]),
        ]
    return found


async def _sweep(logins: Logins) -> None:
    while True:
        await asyncio.sleep(_SWEEP_S)
        await run_in_threadpool(logins.sweep)


async def _failed(request: Request, error: Exception) -> Response:
    return error_of(error)


def application(settings: Settings, logins: Logins) -> Starlette:
    """The page's application. Ends the logins' sessions when it is stopped."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.stopping = asyncio.Event()
        sweeping = asyncio.create_task(_sweep(logins))
        yield
        sweeping.cancel()
        await run_in_threadpool(logins.close)

    app = Starlette(
        routes=_routes(settings),
        middleware=[Middleware(Safety, settings=settings, logins=logins)],
        exception_handlers=dict.fromkeys(ERRORS, _failed),
        lifespan=lifespan,
    )
    app.state.settings = settings
    app.state.logins = logins
    return app
