"""The requests of a session in an event loop: their order, and what a cancellation does.

**Order.** Requests begin in the order of :class:`~faaskeeper.session.order.Order`. Each has its
place from the first step of its coroutine on. A write with data in a blob keeps its place during
the upload: if its turn comes before the upload ends, it *holds* the order, and no later request
begins.

**Cancellation.** Each await of a request is in one of three states, each with its own cleanup:

* It waits for its turn or its upload: it is removed from the order, which goes on. It has no
  number.
* It reads: its steps are closed, which undoes what they registered (a watch that is being set, a
  track), and the order advances. Only ``finally`` blocks do that, so the command at which the
  cancellation comes does not matter.
* It is numbered: nothing is undone. The request is resent until it is answered, and its answer
  is dropped because the future is done. So numbers have no gaps, and the order counts the request
  until it is answered.

A turn may come at the moment of its cancellation: the future has a result, or was cancelled, but
its task has not run since. :attr:`Turn.begun`, which only :meth:`Requests._begin` sets,
distinguishes the two cases.
"""

from __future__ import annotations

import asyncio
from typing import Any

from faaskeeper.aio.callbacks import Callbacks
from faaskeeper.aio.driver import Driver
from faaskeeper.aio.sender import Sender
from faaskeeper.core.acl import Credential
from faaskeeper.core.errors import DriverError
from faaskeeper.core.records import Record
from faaskeeper.exceptions import FaaSKeeperException, ProviderException
from faaskeeper.session.calls import Write
from faaskeeper.session.commands import Steps
from faaskeeper.session.engine import Engine
from faaskeeper.session.order import Order

_READS = 64
"""The maximum number of concurrent reads; others wait."""

Future = asyncio.Future[Any]


class Turn:
    """A request in the session's order: it waits for its turn, or is in flight.

    ``write`` None: a read. ``auth``: the credentials at the time of the request. ``ready`` False:
    its data is being uploaded. ``begun``: a read may run, a write is numbered.
    """

    __slots__ = ("auth", "begun", "future", "ready", "write")

    def __init__(self, future: Future, write: Write | None = None, auth: tuple[Credential, ...] = ()) -> None:
        self.future = future
        self.write = write
        self.auth = auth
        self.ready = True
        self.begun = False


class Later:
    """The type of LATER, which stands for a record that cannot be shown at once."""


LATER = Later()


class Requests:
    """Belongs to the loop that runs at its creation."""

    def __init__(self, engine: Engine[Future], driver: Driver, sender: Sender, callbacks: Callbacks) -> None:
        self._engine = engine
        self._rules = engine.rules
        self._connection = engine.connection
        self._driver = driver
        self._sender = sender
        self._callbacks = callbacks
        self._loop = asyncio.get_running_loop()
        self._order: Order[Turn] = Order(_READS)
        self._held: Turn | None = None
        """A write whose turn has come before its upload is done: no request begins before it."""

    def _check(self) -> None:
        """Raise the error that ended the session, or RuntimeError outside the session's loop."""
        self._engine.check()
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError("this client was started in another event loop: start() it in this one")

    # ---- writing -----------------------------------------------------------------------

    async def write(self, write: Write) -> Any:
        """Send a request after all earlier requests; returns its result, or raises its error.

        A cancellation withdraws the request if it has not begun. The CancelledError has a note that
        says so, or that the request was sent, or what its answer was.
        """
        self._check()
        turn = Turn(self._loop.create_future(), write, self._engine.auth)
        if self._engine.must_upload(write):
            await self._upload(turn, write)
        else:
            self._ask(turn)
        try:
            return await turn.future
        except asyncio.CancelledError as error:
            error.add_note(f"{write.what}: {self._withdraw(turn)}")
            raise

    def ask(self, write: Write) -> Future:
        """Send a request whose data is small; cancelling the future drops the answer."""
        turn = Turn(self._loop.create_future(), write, self._engine.auth)
        self._ask(turn)
        return turn.future

    def _ask(self, turn: Turn) -> None:
        """Begin a write, or queue it in the order."""
        if turn.ready and turn.write is not None:
            self._engine.check_size(turn.write)
        if self._held is None and self._order.may_begin(True):
            self._order.begin(True)
            self._begin(turn)
        else:
            self._order.add(True, turn)

    async def _upload(self, turn: Turn, write: Write) -> None:
        """Upload a write's data to a blob. The write keeps its place before later requests."""
        turn.ready = False
        self._ask(turn)
        try:
            turn.write = await self._driver.drive(self._engine.uploaded(write))
            self._engine.check()
            self._engine.check_size(turn.write)
        except BaseException as error:
            note = self._withdraw(turn)
            if isinstance(error, asyncio.CancelledError):
                error.add_note(f"{write.what}: {note}")
            raise
        turn.ready = True
        if self._held is turn:
            self._held = None
            self._begin(turn)
            self.advance()

    def _withdraw(self, turn: Turn) -> str:
        """Withdraw a write if it has not begun; returns what is known about it."""
        future = turn.future
        if future.done() and not future.cancelled():  # between its answer and its task's next step
            error = future.exception()
            return "it was answered: it happened" if error is None else f"it was answered: {error}"
        if turn.begun:
            return "it was sent: whether it happens is not known"
        future.cancel()
        if self._held is turn:
            self._held = None
            self._order.done(True)
        else:
            self._order.remove(turn)
        self.advance()
        return "it was not sent: nothing was changed"

    def _begin(self, turn: Turn) -> None:
        """Number and send a write whose turn has come, or let a read begin."""
        write = turn.write
        if turn.future.done():  # cancelled, and its task has not run since
            self._order.done(write is not None)
        elif write is None:
            turn.begun = True
            turn.future.set_result(None)
        elif not turn.ready:
            self._held = turn
        else:
            turn.begun = True
            self._sender.expect()
            self._engine.add(write, turn.future, turn.auth)
            self._sender.flush()

    def answered(self, number: int) -> None:
        """Note that so many writes have their answers. Then :meth:`advance` is due."""
        for _ in range(number):
            self._order.done(True)

    def advance(self) -> None:
        """Begin all requests that may begin."""
        while self._held is None and (turn := self._order.next()) is not None:
            self._begin(turn)

    def abandon(self, error: FaaSKeeperException) -> None:
        """Fail the requests that have not begun, since the session has ended."""
        for turn in self._order.abandon():
            fail(turn.future, error)
        self._held = None  # its upload checks for the error itself

    # ---- reading -----------------------------------------------------------------------

    def at_once(self, path: str) -> Record | Later | None:
        """A path's record, a tombstone or None, if it may be shown without waiting; else LATER.

        It takes no place in the order: nothing that it would wait for is in flight, and it is done
        before any other code runs.
        """
        self._check()
        if (
            not self._driver.near
            or self._held is not None
            or not self._order.may_begin(False)
            or not self._driver.may_stay
        ):
            return LATER
        rules = self._rules
        began, ticket = rules.observer.reads(), rules.ticket
        try:
            record = self._connection.records.get(path)
        except DriverError as error:
            raise ProviderException(str(error)) from error
        if not rules.accepts(path, record, ticket):
            return LATER
        rules.observer.shown(path, record)
        if self._callbacks:
            self._callbacks.run()
        rules.observer.has_read(began)
        return record

    async def read(self, steps: Steps) -> Any:
        """Perform steps in the session's order: after earlier writes, and before later ones."""
        self._check()
        began = self._rules.observer.reads()
        if self._held is None and self._order.may_begin(False):
            self._order.begin(False)
        else:
            await self._turn()
        try:
            self._engine.check()
            result = await self._driver.drive(steps)
        finally:
            self._order.done(False)
            self.advance()
            if self._callbacks:  # after an error too: "no such node" shows a deletion
                self._callbacks.run()
        self._rules.observer.has_read(began)
        return result

    async def _turn(self) -> None:
        turn = Turn(self._loop.create_future())
        self._order.add(False, turn)
        try:
            await turn.future
        except BaseException:  # cancelled, or the session was lost
            if turn.begun:
                self._order.done(False)
            else:
                self._order.remove(turn)
            self.advance()
            raise


def fail(future: Future, error: BaseException) -> None:
    """Give a future an error, unless it is done."""
    if not future.done():
        future.set_exception(error)
        future.exception()  # its task may be gone
