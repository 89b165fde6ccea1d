"""The parts by which all connections of a server reach its deployment, assembled.

Everything here belongs to the event loop's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from faaskeeper.core.connection import Connection
from faaskeeper.gateway.following import Follower, Following, FollowingRules, ReadCounts
from faaskeeper.gateway.lease import ServerLease
from faaskeeper.gateway.machine import MACHINE, Machine
from faaskeeper.gateway.output import OutputBatch
from faaskeeper.gateway.plain import PlainReads
from faaskeeper.gateway.receiver import ReplyReceiver
from faaskeeper.gateway.runner import StepRunner
from faaskeeper.gateway.sender import RequestSender
from faaskeeper.gateway.sessions import GatewaySession
from faaskeeper.gateway.watches import SharedRules, SharedWatches


class Hub:
    """One server's way to its deployment.

    ``on_lost`` is called with the reason when clients may not be served any more, because the
    server's own lease is not good; ``on_failure`` when the deployment cannot be used at all.
    ``following``: how to follow the log and answer reads from memory, if stores are far.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        on_lost: Callable[[str], None],
        on_failure: Callable[[Exception], None],
        machine: Machine = MACHINE,
        following: Following | None = None,
    ) -> None:
        self.connection = connection
        self.random = machine.random
        self.now = machine.now
        self.near = connection.within is not None
        """Stores answer within microseconds."""
        self.following = None if self.near else following
        self.sessions: dict[int, GatewaySession] = {}
        """The sessions that are served here, by id."""
        self.output = OutputBatch(asyncio.get_running_loop())

        def ring(pause: float) -> None:
            self.lease.ring(pause)

        run = partial(StepRunner, connection, ring, machine)
        self.runner = run(rows=self.following is None)
        self.follower: Follower | None = None
        if self.following is None:
            self.watches = SharedWatches(self.runner, partial(SharedRules, near=self.near))
        else:
            counts = ReadCounts()
            make = partial(FollowingRules, following=self.following, now=machine.now, counts=counts)
            self.watches = SharedWatches(self.runner, make)
            alone = run(rows=False, threads=1)
            self.follower = Follower(alone, self.watches, self.following, machine.now, counts)
        self.receiver = ReplyReceiver(connection, self.watches, self.output, self.sessions)
        plain = PlainReads(connection.records if self.near else None, self.watches)
        self.sender = RequestSender(connection, self.runner, self.receiver, plain, self.output)
        self.lease = ServerLease(
            connection,
            self.watches,
            self.receiver,
            self.sender,
            self.sessions,
            on_lost=on_lost,
            random=machine.random,
            now=machine.now,
        )
        self.runner.begin(0, self.receiver.address)
        connection.on_failure(lambda error: self.runner.soon(on_failure, error))
        connection.on_return(lambda: self.runner.soon(self._returned))

    def _returned(self) -> None:
        """The service was away and is back."""
        self.lease.returned()
        for session in list(self.sessions.values()):
            session.resend_all()

    def new_session(self, id: int, password: bytes, timeout: int, incarnation: int) -> GatewaySession:
        """A session to be served here; ``timeout`` in ms."""
        return GatewaySession(self.sender, self.now, self.forget, id, password, timeout, incarnation)

    def forget(self, id: int) -> GatewaySession | None:
        """Serve a session no more; returns it, if it was served."""
        return self.sessions.pop(id, None)

    def close(self) -> None:
        """Release the connection to the deployment, and the threads."""
        self.receiver.close()
        self.runner.close()
        if self.follower is not None:
            self.follower.close()
        self.connection.close()
