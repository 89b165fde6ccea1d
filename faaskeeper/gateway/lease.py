"""The server's own session: its lease answers for the sessions that it serves.

A server serves clients only for two thirds of its lease's time-out after a renewal began
(``docs/architecture/gateway.md``, One lease for all sessions). It never knows less than the store:

* Renewals come one after the other, each to its end, also where who asked for it is gone. One that
  ran on beside a later one would set the lease back.
* A renewal that fails may have taken effect, now or later. So from its beginning a server serves
  no longer than it allows, and counts the longer of the two time-outs as the lease's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, MutableMapping
from contextlib import suppress

from faaskeeper.core import trust
from faaskeeper.core.changes import Opened
from faaskeeper.core.connection import Connection
from faaskeeper.core.errors import DriverError, StaleView
from faaskeeper.core.requests import Close, Epoch, Message, Open, Operation, Reply, Request
from faaskeeper.core.sessions import Lease, served_ms
from faaskeeper.exceptions import ProviderException
from faaskeeper.gateway.errors import ServerError
from faaskeeper.gateway.receiver import ReplyReceiver
from faaskeeper.gateway.sender import RequestSender
from faaskeeper.gateway.sessions import GatewaySession
from faaskeeper.gateway.watches import SharedWatches
from faaskeeper.session.incarnation import Over, renew
from faaskeeper.session.timing import RENEWALS, RING_S
from faaskeeper.session.unheard import Unheard

_log = logging.getLogger(__name__)

LEASE_MS = 60_000
"""Longest time-out of a server's lease; shorter as soon as one of its sessions' is."""


class ServerLease:
    """A server's session and its lease. ``now``: seconds, by a clock that is never set.

    ``on_lost`` is called with the reason when clients may not be served any more.
    """

    def __init__(
        self,
        connection: Connection,
        watches: SharedWatches,
        receiver: ReplyReceiver,
        sender: RequestSender,
        sessions: MutableMapping[int, GatewaySession],
        *,
        on_lost: Callable[[str], None],
        random: Callable[[int], bytes],
        now: Callable[[], float],
    ) -> None:
        self._connection = connection
        self._watches = watches
        self._runner = watches.runner
        self._receiver = receiver
        self._sender = sender
        self._sessions = sessions
        self._on_lost = on_lost
        self._random = random
        self._now = now
        self.session = 0
        """Id of the server's session; 0 while there is none."""
        self._secret = b""
        self._lease = Lease(0, 0, 0, False)
        self._timeout = LEASE_MS
        """The lease's time-out, or a longer one (ms)."""
        self._renewing = asyncio.Lock()
        self._renewals: set[asyncio.Task[None]] = set()
        self._renewed = asyncio.Event()
        """Set after each renewal: the next is due at another time."""
        self._due = 0.0
        """When the next renewal is due."""
        self._returned = False
        """The service was away since the last renewal."""
        self._good_until = 0.0

    # ---- beginning and end ---------------------------------------------------------------

    async def start(self) -> None:
        """Open the server's session. Raises ServerError, with the reason."""
        self._secret = self._random(trust.KEY_BYTES)
        self._receiver.identify(0, self._secret)
        nonce = self._random(16).hex()
        opening = Open(nonce, self._secret, LEASE_MS)
        unheard = Unheard(
            self._connection, lambda effect: isinstance(effect, Opened) and effect.nonce == nonce
        )
        asked = self._now()
        try:
            message = self.message(0, 0, opening)
            reply = await self._sender.ask(nonce, message, self._secret, unheard=unheard)
            self._opened(reply, int((self._now() - asked) * 1000))
            await self.renew()
        except TimeoutError:
            raise ServerError("the service did not answer: are its functions deployed?") from None
        except (DriverError, StaleView, ProviderException) as error:
            raise ServerError(str(error)) from error
        if not self.serving:
            raise ServerError("the server's own lease could not be renewed")

    def _opened(self, reply: Reply, late: int) -> None:
        self.session = reply.session
        self._receiver.identify(self.session, self._secret)
        self._connection.note_time(reply, late)
        rules = self._watches.rules
        if not rules.seen:
            rules.seen = rules.applied = reply.epoch.upto
        self._lease = Lease(self.session, 1, 0, False)
        self._runner.begin(self.session, self._receiver.address)

    async def restart(self) -> None:
        """Open a new session, after all connections were ended. Raises ServerError."""
        self._watches.restart()
        self._sessions.clear()
        self._sender.forget()
        self.session = 0
        await self.start()

    async def close(self) -> None:
        """Close the server's session, which removes its watches."""
        if self.session and self.serving:
            with suppress(DriverError, TimeoutError):
                closing = Message(self.session, 0, 0, self._receiver.address, (Request(1, Close()),))
                await self._sender.ask((self.session, 0, 1), closing, self._secret)

    def message(self, session: int, incarnation: int, operation: Operation) -> Message:
        """A message that opens or resumes a session."""
        return Message(session, incarnation, 0, self._receiver.address, (Request(0, operation),))

    def ring(self, pause: float) -> None:
        """Ask the service to apply the log; by a queue only if the ``pause`` (in s) is long.

        Steps that wait for that ask again.
        """
        if self._connection.ring is not None:
            try:
                self._connection.ring()
            except DriverError as error:
                _log.warning("could not ask the service to apply the log, will retry: %s", error)
        elif pause > RING_S:
            empty = Message(self.session, 0, 0, self._receiver.address, ())
            self._sender.send([(empty, self._secret)])

    # ---- serving -------------------------------------------------------------------------

    def serves(self, now: float) -> bool:
        """Whether clients may be served at a time: the lease is good, so their sessions live."""
        return now < self._good_until

    @property
    def serving(self) -> bool:
        """Whether clients may be served now."""
        return self.serves(self._now())

    def service_time(self) -> int:
        """The service's clock, as far as its last replies tell (ms)."""
        return self._connection.service()

    async def cover(self, timeout: int) -> None:
        """Make the lease's time-out at most that of a session which it is to answer for (ms)."""
        if timeout < self._timeout:
            await self.renew(timeout)

    async def renew(self, timeout: int = LEASE_MS) -> None:
        """Renew the lease, for at most ``timeout`` ms; meet epochs without a notification.

        Where only the second fails, that is logged. Raises DriverError; ServerError where the
        server's session has ended: :meth:`restart` it.
        """
        task = asyncio.get_running_loop().create_task(self._renew(timeout))
        self._renewals.add(task)
        task.add_done_callback(self._ended)
        await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._renewals.discard(task)
        if not task.cancelled():
            task.exception()  # who asked for the renewal may not be there any more

    async def _renew(self, timeout: int) -> None:
        async with self._renewing:
            self._due = self._now() + min(self._timeout / 1000 / RENEWALS, 1.0)  # unless it succeeds
            try:
                await self._put(timeout)
                self._due = self._now() + self._timeout / 1000 / RENEWALS
            finally:
                self._renewed.set()
            returned, self._returned = self._returned, False
            try:
                mark = await self._runner.call(self._connection.applied)
            except DriverError as error:
                self._not_met(returned, error)
                return
        rules = self._watches.rules
        try:
            if returned:  # the mark may not cover what nobody was notified of
                await self._runner.perform(rules.sync())
            elif rules.watching or rules.follows:
                await self._runner.perform(rules.meet(Epoch(mark, mark, ()), settled=True))
        except DriverError as error:
            self._not_met(returned, error)

    def _not_met(self, returned: bool, error: DriverError) -> None:
        """The lease is renewed all the same; the next renewal does what this one has not done."""
        self._returned = self._returned or returned
        _log.warning("the lease was renewed, but the log cannot be followed now: %s", error)

    async def _put(self, timeout: int) -> None:
        """Put the lease, for at most ``timeout`` ms."""
        began = self._now()
        timeout = min(timeout, *(each.timeout for each in self._sessions.values()), LEASE_MS)
        good_until = began + served_ms(timeout) / 1000
        expires = self.service_time() + timeout
        wanted = self._lease._replace(expires=expires, timeout=timeout)
        # Until this has succeeded, whichever is worse of the lease before and this one may count.
        self._timeout = max(self._timeout, timeout)
        self._good_until = min(self._good_until, good_until)
        try:
            self._lease = await self._runner.call(renew, self._connection.leases, wanted)
        except Over:
            self._good_until = 0.0
            raise ServerError("the server's session has expired") from None
        self._timeout = timeout
        self._good_until = good_until

    def returned(self) -> None:
        """The service was away and is back: renew now, and meet the log up to its end."""
        self._returned = True
        self._due = 0.0
        self._renewed.set()

    async def keep(self) -> None:
        """Renew the lease for ever. When the session has ended: ``on_lost``, then open another."""
        while True:
            self._renewed.clear()
            left = self._due - self._now()
            if left > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._renewed.wait(), left)
                continue
            try:
                await self.renew()
            except DriverError as error:
                _log.warning("the server's lease was not renewed: %s", error)
            except ServerError as error:
                self._on_lost(str(error))
                await self._restarted()

    async def _restarted(self) -> None:
        while True:
            try:
                await self.restart()
                return
            except ServerError as error:
                self._on_lost(f"the server cannot begin again yet: {error}")
                await asyncio.sleep(1.0)
