"""The registry of a server's sessions: opens, resumes and releases them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
from hmac import compare_digest
from typing import Any

from faaskeeper.core.errors import Code, Conflict, DriverError
from faaskeeper.core.requests import Open, Resume
from faaskeeper.core.sessions import Lease, next_incarnation
from faaskeeper.gateway.errors import SessionBusy, SessionExpired
from faaskeeper.gateway.hub import Hub
from faaskeeper.gateway.sessions import PASSWORD_BYTES, Bounds, GatewaySession, proof_of, secret_of
from faaskeeper.session.timing import doubling

_TRIES = 5
_LOOKS = 4
"""How often a lease is looked for whose put had no answer, in growing intervals."""

_log = logging.getLogger(__name__)


class SessionRegistry:
    """Opens, resumes and releases sessions."""

    def __init__(self, hub: Hub, bounds: Bounds) -> None:
        self._hub = hub
        self._bounds = bounds
        self._releasing: set[asyncio.Task[None]] = set()
        self._taking: set[int] = set()
        """Sessions that are being taken over."""

    async def open(self, timeout: int) -> GatewaySession:
        """A new session. Raises DriverError, TimeoutError, SessionBusy."""
        hub = self._hub
        timeout = self._bounds.fit(timeout)
        await hub.lease.cover(timeout)
        password = hub.random(PASSWORD_BYTES)
        nonce = hub.random(16).hex()
        secret = secret_of(password)
        opening = hub.lease.message(0, 0, Open(nonce, secret, timeout))
        reply = await hub.sender.ask(nonce, opening, secret)
        session = hub.new_session(reply.session, password, timeout, 0)
        try:
            await self._attach(session, Lease(session.id, 1, 0, False))
        except SessionExpired:
            # Its client has never heard of it: it asks again, and is not told of an expiry.
            raise SessionBusy(f"session 0x{session.id:x} expired while it was opened") from None
        self._serve(session)
        await hub.lease.cover(timeout)  # it may have been renewed for longer meanwhile
        return session

    async def resume(self, id: int, password: bytes, timeout: int) -> GatewaySession:
        """The session of a client that was connected before.

        Raises SessionExpired, SessionBusy, DriverError, TimeoutError.
        """
        hub = self._hub
        lease = await hub.runner.call(hub.connection.leases.get, id) if 0 < id < 1 << 62 else None
        if lease is None or lease.marked or not lease.proof:
            known = hub.forget(id)
            if known is not None:
                known.detach(f"session 0x{id:x} has expired")
            raise SessionExpired
        if not compare_digest(lease.proof, proof_of(secret_of(password))):
            raise SessionExpired
        known = hub.sessions.get(id)
        if known is not None and lease.version == known.lease.version:
            return await self._confirm(known, lease)
        if id in self._taking:
            # Both would put the lease under the server's, for sessions of which it serves only one.
            raise SessionBusy(f"session 0x{id:x} is being taken over by another connection")
        if known is not None:
            hub.forget(id)
            known.detach(f"session 0x{id:x} was moved to another server")
        timeout = self._bounds.fit(timeout)
        self._taking.add(id)
        try:
            await hub.lease.cover(timeout)
            return await self._take_over(lease, password, timeout)
        finally:
            self._taking.discard(id)

    async def _confirm(self, known: GatewaySession, lease: Lease) -> GatewaySession:
        """Go on with a session whose client has come back. Raises as :meth:`_put` does.

        The client may have tried another server meanwhile. A put of that one which is still on its
        way must not take effect any more, so the lease gets another version.
        """
        known.active = self._hub.now()
        try:
            known.lease = await self._put(lease)
        except (SessionBusy, SessionExpired):
            raise
        except (Exception, asyncio.CancelledError):
            if self._hub.sessions.get(known.id) is known:
                self._hub.forget(known.id)
                known.detach(f"session 0x{known.id:x}: its lease could not be renewed")
            raise
        return known

    async def _take_over(self, lease: Lease, password: bytes, timeout: int) -> GatewaySession:
        """Put the session's lease under this server's, then resume it as its next incarnation.

        In this order: a session whose lease is ours does not expire in between.
        """
        hub = self._hub
        # As far as is known: a server that took the session over may not have resumed it.
        current = lease.incarnation
        for _ in range(_TRIES):
            incarnation = next_incarnation(max(lease.incarnation, current), hub.random)
            session = hub.new_session(lease.session, password, timeout, incarnation)
            await self._attach(session, lease)
            resuming = hub.lease.message(session.id, incarnation, Resume(current))
            try:
                reply = await hub.sender.ask((session.id, incarnation, 0), resuming, session.secret, 10.0)
            except (Exception, asyncio.CancelledError):  # the latter: its client is gone, too
                self._leave(session)
                raise
            outcome = reply.outcomes[0][1]
            if outcome.code is Code.OK:
                session.owned.update(outcome.paths)
                self._serve(session)
                await hub.lease.cover(timeout)
                return session
            if outcome.code is Code.SESSION_EXPIRED:
                raise SessionExpired
            lease, current = session.lease, reply.current
        self._leave(session)
        raise SessionBusy(f"other servers take session 0x{lease.session:x} over at the same time")

    def _serve(self, session: GatewaySession) -> None:
        session.active = self._hub.now()
        self._hub.sessions[session.id] = session

    async def _attach(self, session: GatewaySession, lease: Lease) -> None:
        """Put the session's lease under the server's. Raises as :meth:`_put` does."""
        hub = self._hub
        session.lease = await self._put(
            lease._replace(
                expires=hub.lease.service_time() + session.timeout,
                incarnation=session.incarnation,
                under=hub.lease.session,
                timeout=session.timeout,
                proof=proof_of(session.secret),
            )
        )

    async def _put(self, wanted: Lease) -> Lease:
        """Put a lease under the server's; returns it with its version.

        Raises SessionExpired, SessionBusy. If this fails otherwise, or is cancelled, the lease is
        freed as soon as it is there.
        """
        hub = self._hub
        put = asyncio.ensure_future(hub.runner.call(hub.connection.leases.replace, wanted))
        try:
            return await asyncio.shield(put)
        except Conflict:
            current = await hub.runner.call(hub.connection.leases.get, wanted.session)
            if current is None or current.marked:
                raise SessionExpired from None
            raise SessionBusy(f"another server takes session 0x{wanted.session:x} over") from None
        except (Exception, asyncio.CancelledError):
            self._begin(self._disown(put, wanted))
            raise

    def check(self) -> None:
        """Release sessions with silent clients; send requests again that have no reply."""
        now = self._hub.now()
        sessions = self._hub.sessions.values()
        for session in [each for each in sessions if now > each.active + each.timeout / 1000]:
            self.release(session, now - session.active)
        for session in [each for each in sessions if each.waits]:
            session.resend(now)

    def release(self, session: GatewaySession, silent: float) -> None:
        """Leave a session to heartbeat. ``silent``: seconds since its client was last active."""
        hub = self._hub
        hub.forget(session.id)
        session.detach(f"session 0x{session.id:x}: its client sent nothing for {silent:.1f} s")
        self._leave(session, silent)

    def _leave(self, session: GatewaySession, silent: float = 0.0) -> None:
        """Take a session's lease from under the server's, else it lives as long as the server."""
        active = self._hub.lease.service_time() - int(silent * 1000)
        self._begin(self._free(session.lease._replace(under=0, expires=active + session.timeout)))

    def _begin(self, releasing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(releasing)
        self._releasing.add(task)
        task.add_done_callback(self._releasing.discard)

    async def _disown(self, put: asyncio.Future[Lease], wanted: Lease) -> None:
        """Free a lease whose put under the server's had no answer, if it takes effect.

        Another server may have put the same version; an incarnation is one server's.
        """
        await asyncio.wait((put,))
        hub = self._hub
        for pause, _ in zip(doubling(0.5), range(_LOOKS), strict=False):
            with suppress(DriverError):
                found = await hub.runner.call(hub.connection.leases.get, wanted.session)
                if found is not None and (found.under, found.incarnation) == (
                    wanted.under,
                    wanted.incarnation,
                ):
                    expires = hub.lease.service_time() + wanted.timeout
                    await self._free(found._replace(under=0, expires=expires))
                    return
                if found is None or found.version != wanted.version:
                    return  # it did not take effect, and cannot any more
            await asyncio.sleep(pause)

    async def _free(self, lease: Lease) -> None:
        """Write a lease that is not under the server's any more, as often as it takes."""
        hub = self._hub
        pauses = doubling(0.5, 10.0)
        while True:
            try:
                await hub.runner.call(hub.connection.leases.replace, lease)
                return
            except Conflict:
                return  # another server has it, or it is over, or an earlier try took effect
            except DriverError as error:
                _log.warning("session 0x%x is not released yet: %s", lease.session, error)
                await asyncio.sleep(next(pauses))

    async def release_all(self) -> None:
        """Release every session, since the server stops: their clients find another server."""
        now = self._hub.now()
        for session in list(self._hub.sessions.values()):
            self.release(session, now - session.active)
        await asyncio.gather(*self._releasing)
