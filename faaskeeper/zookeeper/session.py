"""A session with a ZooKeeper server, as the client's shell uses one.

Steps that read are generators that yield :class:`Ask` and are sent the decoded reply. They are
driven by the link's thread, so asynchronous reads take no thread of their own, and all requests of
a session reach the server in the order in which they were made.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Any, NamedTuple, cast

from faaskeeper.client.callbacks import Callbacks
from faaskeeper.client.futures import Future
from faaskeeper.client.runtime import THREADS
from faaskeeper.core.acl import Credential
from faaskeeper.core.errors import Code
from faaskeeper.core.requests import Close
from faaskeeper.exceptions import (
    FaaSKeeperException,
    SessionClosingException,
    SessionExpiredException,
    ZooKeeperException,
)
from faaskeeper.gateway import protocol
from faaskeeper.gateway.jute import Decoder
from faaskeeper.session.calls import Write
from faaskeeper.session.reads import Refused
from faaskeeper.session.states import Listener, SessionState
from faaskeeper.watch import WatchedEvent
from faaskeeper.zookeeper import wire
from faaskeeper.zookeeper.address import Address
from faaskeeper.zookeeper.link import Call, Link
from faaskeeper.zookeeper.watches import Watched, Watches


class Ask(NamedTuple):
    """A read, or what concerns watches. Its answer: what ``decode`` makes of the record.

    ``path``: in the whole tree, for errors. ``watch``: registered with the reply. ``missing``: the
    answer is None if the node does not exist, and ``watch`` waits for its creation.
    """

    kind: int
    body: bytes
    path: str
    decode: Callable[[Decoder], Any]
    watch: Watched | None = None
    missing: bool = False


Asks = Generator[Ask, Any, Any]


class ZooKeeperSession:
    """One session, from :meth:`open` to :meth:`close` or its loss."""

    rules = None
    connection = None

    def __init__(self, address: Address, timeout_s: float, listeners: list[Listener]) -> None:
        self.address = address
        self.state = SessionState.LOST
        self.watches = Watches()
        self.auth: tuple[Credential, ...] = ()
        self._listeners = listeners
        self._callbacks = Callbacks(THREADS, THREADS.spawn)
        self._link = Link(address, round(1000 * timeout_s), self)

    @property
    def id(self) -> int:
        """The session's id; 0 before it is open."""
        return self._link.session

    @property
    def timeout_ms(self) -> int:
        """The time-out that the server granted."""
        return self._link.timeout_ms

    @property
    def error(self) -> FaaSKeeperException | None:
        """The error that ended the session."""
        return self._link.error

    @property
    def lease_left_ms(self) -> int:
        """For how long the session cannot expire, ms; 0 once it has ended. See the link."""
        return self._link.left_ms

    def open(self, timeout: float) -> None:
        """Open the session. Raises ProviderException, TimeoutException."""
        self._link.open(timeout)

    def close(self, timeout: float) -> None:
        """End the session: its ephemerals are deleted. Raises TimeoutException."""
        try:
            if self.state is SessionState.CONNECTED:
                self.ask(Write(Close(), "closing the session", lambda outcome: None)).get(timeout)
        except (SessionExpiredException, SessionClosingException):
            pass  # it was over already
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Stop without a message: the session ends after its time-out."""
        try:
            self._link.stop()
        except FaaSKeeperException:
            pass  # it has stopped by itself
        self._callbacks.stop(5.0)

    def show(self, scheme: str, credential: str) -> None:
        """Show a credential from now on."""
        self._link.greet(wire.auth(scheme, credential))

    # ---- what the link tells ---------------------------------------------------------------------

    def state_is(self, state: SessionState) -> None:
        """The state changed."""
        self.state = state
        for listener in list(self._listeners):
            self._callbacks.later(partial(listener, state))

    def happened(self, kind: int, path: str, zxid: int) -> None:
        """An event came: its watches' callbacks run after earlier ones."""
        event = wire.EVENTS.get(kind)
        if event is None:
            return
        for callback in self.watches.fire(event, path):
            self._callbacks.later(partial(callback, WatchedEvent(event, path, zxid)))

    def greeting(self, zxid: int) -> Iterator[bytes]:
        """Credentials, then watches."""
        for scheme, credential in self.auth:
            yield wire.auth(scheme, credential)
        for lists in self.watches.again():
            yield wire.watches(zxid, lists)

    # ---- the shell's side ------------------------------------------------------------------------

    def prepare_callbacks(self) -> None:
        """Start the thread that runs callbacks, unless it runs."""
        self._callbacks.prepare()

    def call_later(self, callback: Callable[[], Any]) -> None:
        """Run a callback in the callback thread, after those before it."""
        self._callbacks.later(callback)

    @property
    def in_callback(self) -> bool:
        """Whether the caller runs in the callback thread."""
        return self._callbacks.current

    def ask(self, write: Write, prompt: bool = False) -> Future[Any]:
        """Send a write; its result or error comes by the future."""
        future: Future[Any] = Future(write.what, True, self.call_later)
        asked = write.operation
        kind, body = wire.operation(asked)

        def replied(zxid: int, error: int, decoder: Decoder) -> None:
            try:
                if error and wire.code_of(error) in (None, Code.UNIMPLEMENTED):
                    raise _refusal(self.address, kind, error, write.what)
                outcome = wire.outcome(asked, kind, zxid, error, decoder)
                future.set_result(write.finish(outcome))
            except FaaSKeeperException as failed:
                future.set_exception(failed)
            except KeyError as failed:
                future.set_exception(_refusal(self.address, kind, failed.args[0], write.what))

        self._link.send(Call(kind, body, write.what, True, replied, future.set_exception))
        return future

    def later(self, steps: Asks, what: str) -> Future[Any]:
        """Perform steps; their result or error comes by the future."""
        future: Future[Any] = Future(what, False, self.call_later)
        self._advance(steps, future, what, steps.send, None)
        return future

    def run(self, steps: Asks) -> Any:
        """Perform steps; returns their result."""
        return self.later(steps, "the read").get()

    drive = run

    def _advance(
        self, steps: Asks, future: Future[Any], what: str, go_on: Callable[[Any], Ask], value: Any
    ) -> None:
        """Let steps go on until they ask for something; then send it."""
        try:
            asked = go_on(value)
        except StopIteration as done:
            future.set_result(done.value)
            return
        except BaseException as error:
            future.set_exception(error)
            return

        def replied(zxid: int, error: int, decoder: Decoder) -> None:
            try:
                answer = self._answer(asked, error, decoder)
            except (FaaSKeeperException, Refused) as refused:
                self._advance(steps, future, what, cast(Any, steps.throw), refused)
            else:
                self._advance(steps, future, what, steps.send, answer)

        def failed(error: FaaSKeeperException) -> None:
            self._advance(steps, future, what, cast(Any, steps.throw), error)

        try:
            self._link.send(Call(asked.kind, asked.body, what, False, replied, failed))
        except FaaSKeeperException as over:
            failed(over)

    def _answer(self, asked: Ask, error: int, decoder: Decoder) -> Any:
        if asked.missing and wire.code_of(error) is Code.NO_NODE:
            if asked.watch is not None:
                _, path, callback = asked.watch
                self.watches.add(("exists", path, callback))
            return None
        if error:
            code = wire.code_of(error)
            if code in (None, Code.UNIMPLEMENTED):
                raise _refusal(self.address, asked.kind, error, protocol.NAMES[asked.kind])
            raise Refused(cast(Code, code), asked.path)
        answer = asked.decode(decoder)
        if asked.watch is not None:
            self.watches.add(asked.watch)
        return answer


def _refusal(address: Address, kind: int, error: int, what: str) -> ZooKeeperException:
    """The exception for an error without a code of ours."""
    if error == protocol.UNIMPLEMENTED:
        since = wire.SINCE.get(kind)
        needs = f": ZooKeeper has it since {since}" if since else ""
        return ZooKeeperException(f"{address} does not know {protocol.NAMES[kind]}{needs}")
    return ZooKeeperException(f"{what}: {address} answered {wire.name_of(error)}")
