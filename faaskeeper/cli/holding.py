"""A command that runs while a lock is held, and no longer: ``fk lock`` without its options.

**Invariant.** While this process or its guard runs, no process of the command executes when another
contender may hold the lock.

*Argument.* Another may hold it once this contender's node is gone: with its session, or deleted by a
client. A session that its client does not close ends when its lease has ended, and not before. The
client knows the end of its lease by its estimate of the service's clock. That is behind by at most
the time that one reply took, and by the drift since (100 parts per million; see
docs/architecture/clocks.md). On a ZooKeeper server the end counts from when the last frame that was
answered was sent (:mod:`faaskeeper.zookeeper.link`). So nothing of the command is left
:attr:`Holding.margin` before that end: :data:`MARGIN_S`, more than the drift between two requests that
this process makes for their replies alone (:data:`_MEASURE_S`), and what the slowest of these took.
That moment goes to the guard (:mod:`faaskeeper.cli.guard`), a process of its own, by a clock that is
never set and counts sleep, whenever a renewal moves it. The guard kills the command at this moment,
whatever happens here: it needs no word for that.

Time is enough for two renewals: the lease is renewed each third of its time-out T, so if one fails
and the next succeeds, T/3 is left at that time. :func:`check_grace` refuses a grace that does not
fit into that with the margin.

If the lock ends before its lease, because the operator ended the session or deleted the contender's
node, another may hold it at once: the command is killed without grace as soon as this is known,
which is too late by as long as that takes (a notification, or a renewal for a session).
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from faaskeeper.cli.errors import Failed
from faaskeeper.client import FaaSKeeperClient, SessionState
from faaskeeper.clocks import elapsed, elapsed_s
from faaskeeper.exceptions import (
    FaaSKeeperException,
    NodeDoesntExistException,
    ProviderException,
    SessionExpiredException,
)
from faaskeeper.recipes.lock import Lock
from faaskeeper.session.timing import RENEWALS
from faaskeeper.watch import WatchedEvent, WatchEventType

MARGIN_S = 1.0
"""How long before the lease's end nothing of the command may be left, if replies took no time."""
_MEASURE_S = 1800.0
"""How often a request is made for the service's time in its reply: clocks drift by 0.36 s in an hour."""
_POLL_S = 0.2
_GRACE_S = 5.0
_SAME_MS = 20
LOST = 1
"""The exit status when the lock was lost while the command ran."""
_SIGNALS = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


def grace_within(grace: float | None, timeout: float) -> float:
    """The seconds from SIGTERM to SIGKILL under a session of this time-out. None: 5, or what fits.

    Raises Failed if the session may end before a command has had its grace.
    """
    if grace is None:
        return max(min(_GRACE_S, timeout / RENEWALS - MARGIN_S), 0)
    check_grace(grace, timeout)
    return grace


def check_grace(grace: float, timeout: float) -> None:
    """Raise Failed if a session of this time-out may end before a command has had its grace; seconds."""
    most = timeout / RENEWALS - MARGIN_S
    if grace > most:
        enough = (grace + MARGIN_S) * RENEWALS
        raise Failed(
            f"--grace {grace:g} does not fit a session time-out of {timeout:g} s: use at most "
            f"{max(most, 0):.3g}, or --session-timeout {enough:g}",
            2,
        )


class Ended(BaseException):
    """A signal ended this process's wait. ``number``: of the signal."""

    def __init__(self, number: int) -> None:
        self.number = number


class Signals:
    """Handles signals: until :attr:`forward` is set, they raise Ended (SIGINT: KeyboardInterrupt)."""

    def __init__(self) -> None:
        self.forward: Callable[[int], None] | None = None

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handle the signals that are not ignored, as under nohup."""
        before = {each: signal.getsignal(each) for each in _SIGNALS}
        taken = [each for each, handler in before.items() if handler is not signal.SIG_IGN]
        for each in taken:
            signal.signal(each, self._take)
        try:
            yield
        finally:
            for each in taken:
                signal.signal(each, before[each])

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.forward is not None:
            self.forward(number)
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            raise Ended(number)


class Guarded:
    """A command under a guard. ``until``, ``grace``: ms; see :mod:`faaskeeper.cli.guard`.

    One thread uses it; :meth:`signal` may be called by a handler of signals.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], grace: int, until: int
    ) -> None:
        self._pid = 0
        """The command's process and group."""
        orders, self._orders = os.pipe()
        self._reports, reports = os.pipe()
        self._rest = b""
        self._until = until
        guard = [sys.executable, "-I", "-S", str(Path(__file__).with_name("guard.py"))]
        numbers = [str(each) for each in (orders, reports, grace, until)]
        try:
            self._process = subprocess.Popen(
                [*guard, *numbers, *command], env=environment, pass_fds=(orders, reports)
            )
        except BaseException:
            self._close()
            raise
        finally:
            os.close(orders)
            os.close(reports)

    @property
    def pid(self) -> int:
        """The guard's process."""
        return self._process.pid

    def until(self, moment: int) -> None:
        """Move the moment at which nothing of the command may be left, unless it is about the same."""
        if abs(moment - self._until) > _SAME_MS:
            self._until = moment
            self._order(f"until {moment}")

    def signal(self, number: int) -> None:
        """Send a signal to the command's process group."""
        self._order(f"signal {number}")

    def end(self) -> None:
        """Ask the command to end, and kill it after the grace."""
        self._order("end")

    def kill(self) -> None:
        """Kill the command."""
        self._order("kill")

    def _order(self, text: str) -> None:
        try:
            os.write(self._orders, text.encode() + b"\n")
        except BrokenPipeError:
            pass  # the guard is gone: the end of its reports says so

    def reports(self, timeout: float) -> list[tuple[str, int]] | None:
        """The reports of the next ``timeout`` seconds, until there is one; None after the last."""
        ready, _, _ = select.select([self._reports], [], [], timeout)
        if not ready:
            return []
        read = os.read(self._reports, 4096)
        if not read:
            return None
        *lines, self._rest = (self._rest + read).split(b"\n")
        found = []
        for line in lines:
            word, _, value = line.decode().partition(" ")
            found.append((word, int(value or 0)))
            if word == "started":
                self._pid = int(value)
        return found

    def close(self) -> None:
        """Wait for the guard's end. If it was killed, kill the command's group."""
        self._close()
        if self._process.wait() and self._pid:
            try:
                os.killpg(self._pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass  # nothing is left, or it is another user's by now

    def _close(self) -> None:
        for each in (self._orders, self._reports):
            os.close(each)


class Holding:
    """A held lock, and the command that runs meanwhile.

    ``lock``: is held. ``grace``: seconds between SIGTERM and SIGKILL. ``slowest``: seconds; the least
    that replies are assumed to take.
    """

    def __init__(self, client: FaaSKeeperClient, lock: Lock, grace: float, slowest: float = 0.0) -> None:
        self._client = client
        self._lock = lock
        self._grace = grace
        self._slowest = slowest
        self._node = ""
        self._gone = False
        """The contender's node does not exist any more."""
        self._measuring = threading.Lock()

    @property
    def margin(self) -> float:
        """How long before the lease's end nothing of the command may be left; seconds."""
        return MARGIN_S + self._slowest

    def _until(self) -> int:
        """The moment, by :func:`elapsed`, at which nothing of the command may be left."""
        now = elapsed()  # first: what happens in between makes it earlier
        return now + int((self._client.lease_left - self.margin) * 1000)

    def prepare(self) -> None:
        """Watch the contender's node, measure how quick replies are, wait for enough of a lease.

        Raises FaaSKeeperException.
        """
        token, node = self._lock.token, self._lock.node
        self._node = node or ""
        self._client.add_watch(self._node, self._changed)
        self._client.add_listener(self._state)
        found = self._client.exists(self._node)
        if found is None or found.stat.czxid != token:
            raise SessionExpiredException("the lock was lost before the command began")
        self._measure()
        left, timeout = self.margin + self._grace, self._client.session_timeout
        if left > timeout * (RENEWALS - 1) / RENEWALS:
            raise ProviderException(
                f"the service answers within {self._slowest:.3g} s, too slowly for a lock under a session "
                f"time-out of {timeout:g} s: use a longer one (--session-timeout)"
            )
        # The command is not to be ended before the next renewal has had its time. Only a session whose
        # opening took long has less than that.
        end = elapsed_s() + timeout
        while self._client.lease_left < left + timeout / RENEWALS:
            if elapsed_s() > end or self._client.state is SessionState.LOST:
                raise ProviderException("the service did not renew the session in time to run the command")
            threading.Event().wait(_POLL_S)

    def _changed(self, event: WatchedEvent) -> None:
        if event.event_type is WatchEventType.NODE_DELETED:
            self._gone = True

    def _state(self, state: SessionState) -> None:
        """Look whether the node is still there: a ZooKeeper server does not tell a watch what it missed."""
        if state is SessionState.CONNECTED:
            threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        try:
            self._gone = self._gone or self._client.exists(self._node) is None
        except FaaSKeeperException:
            pass  # lost again: the next connection has another look, or the lease decides

    def _measure(self) -> None:
        """Make a request that changes nothing, for the time in its reply. Raises FaaSKeeperException."""
        began = elapsed_s()
        transaction = self._client.transaction()
        transaction.check(self._node, -1)
        (result,) = self._client.commit(transaction.parts)
        self._slowest = max(self._slowest, elapsed_s() - began)
        if isinstance(result, NodeDoesntExistException):
            self._gone = True
        elif isinstance(result, FaaSKeeperException):
            raise result

    def _measure_beside(self) -> None:
        """As :meth:`_measure`, for a thread of its own: it takes what a reply takes."""
        if not self._measuring.acquire(blocking=False):
            return
        try:
            self._measure()
        except FaaSKeeperException:
            pass  # unreachable: the lease is not renewed either, and decides
        finally:
            self._measuring.release()

    # ---- the command ---------------------------------------------------------------------

    def run(self, command: Sequence[str], environment: Mapping[str, str], signals: Signals) -> int:
        """Run the command; returns its exit status as a shell's, or raises Failed.

        Returns when nothing is left of the command that would have to end before the lock.
        """
        guarded = Guarded(command, environment, int(self._grace * 1000), self._until())
        signals.forward = guarded.signal
        try:
            return self._watch_over(guarded, command[0])
        finally:
            guarded.close()
            signals.forward = lambda number: None  # nothing but the release is left

    def _watch_over(self, guarded: Guarded, name: str) -> int:
        why = ""
        measure_at = elapsed_s() + _MEASURE_S
        while (reports := guarded.reports(_POLL_S)) is not None:
            for word, value in reports:
                if word == "failed":
                    raise _unstarted(name, value)
                if word == "ending":
                    why = why or "the service did not renew its session in time"
                elif word == "exited":
                    if why:
                        raise Failed(f"the lock {self._lock.path} was lost: {why}; {name} was ended", LOST)
                    return value if value >= 0 else 128 - value
            if not why:
                why = self._lost(guarded)
            if elapsed_s() >= measure_at:
                measure_at += _MEASURE_S
                threading.Thread(target=self._measure_beside, daemon=True).start()
        raise Failed(f"the guard of {name} (process {guarded.pid}) was killed: {name} was killed, too", LOST)

    def _lost(self, guarded: Guarded) -> str:
        """Have the command end if the lock is lost; returns why, or an empty string."""
        session = self._client.session
        error = SessionExpiredException() if session is None else session.error
        if self._gone or isinstance(error, SessionExpiredException):
            guarded.kill()
            return "a client deleted its node" if self._gone else str(error)
        if error is not None:  # this client has failed; its lease is still there
            guarded.end()
            return str(error)
        guarded.until(self._until())
        return ""


def _unstarted(name: str, error: int) -> Failed:
    status = 127 if error == 2 else 126
    return Failed(f"cannot run {name}: {os.strerror(error)}", status)
