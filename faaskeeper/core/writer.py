"""The writer: validates requests on its view and commits a batch by appending one log entry.

``docs/architecture/log.md`` has the theory of operation and the reason for each step. In short: the
entry that holds its outcome decides a request, and only an append that found its key absent
decides. After anything else (a lost race, an unknown fate, a crash), the writer reads the log from
its head on, folds what it finds into the view, and validates the rest again. It does not rely on
queues: a decided request is answered from the session's state, and one ahead of its turn is
answered with "resend".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from faaskeeper.core import admission, codec, logs, paths, trust
from faaskeeper.core.answers import Answer, wake_up
from faaskeeper.core.batch import Batch, ServiceOrder
from faaskeeper.core.codec import Malformed
from faaskeeper.core.contents import Contents
from faaskeeper.core.deployment import Deployment
from faaskeeper.core.distributor import Distributor, Settled
from faaskeeper.core.drivers.storage import Joint, Write
from faaskeeper.core.errors import Conflict, StaleView, TooLarge, Unavailable
from faaskeeper.core.log import Entry, Log
from faaskeeper.core.needs import needs_of, sequential_paths
from faaskeeper.core.requests import (
    Epoch,
    Message,
    Open,
)
from faaskeeper.core.validation import Validator
from faaskeeper.core.view import Missing, Node, View, roll
from faaskeeper.core.watches import Secrets

_UNKNOWN_FATES = 5
"""Appends of unknown fate in a row, none of which took effect, after which a call gives up."""
_JOINT_TRIES = 2
"""How often an entry is put together with its records before it is put alone."""
_MAX_PENDING = 64
"""Pending entries at which a writer beside a separate distributor function reads the mark."""


_logger = logs.logger(__name__)


def order(deployment: Deployment, sessions: Iterable[int] = (), reap: Iterable[str] = ()) -> bytes:
    """A signed order to the writer, to be sent through the worker queue."""
    return trust.sign(deployment.key, codec.frame({"close": list(sessions), "reap": list(reap)}))


class Writer:
    """The writer's function. One call at a time; any number of instances may run.

    ``sends_time``: whether its clock is the service's, so that clients may follow it.
    """

    def __init__(self, deployment: Deployment, sends_time: bool = True) -> None:
        self._deployment = deployment
        self._log: Log = deployment.log
        self._validator = Validator(deployment)
        self._secrets = Secrets(deployment.key)
        self._distributor = Distributor(deployment, self._secrets, sends_time)
        self._view: View | None = None
        self._joined: Settled | None = None
        """The group that was put into user storage together with the last append."""
        self._unknown = 0
        """How many appends in a row had an unknown fate, and no effect."""
        self._held: list[Answer] = []
        """Answers to closed sessions that still own ephemerals: they wait until all are deleted."""

    @property
    def view(self) -> View | None:
        """What it knows between two calls; None: the next call loads it."""
        return self._view

    @property
    def contents(self) -> Contents:
        """The contents of records that it remembers."""
        return self._distributor.contents

    # ---- one call ----------------------------------------------------------------------

    def handle(self, bodies: Sequence[bytes | Message]) -> None:
        """Decide, commit, apply and answer the requests of some messages.

        After any exception the view is discarded: the next call starts from the stores. The queue
        should deliver the messages again; decided requests then get the same answers.
        """
        view, self._view = self._view, None
        self._joined = None
        self._unknown = 0
        self._held = []
        clock = self._deployment.clock
        began = clock()
        begun: set[int] = set()
        if view is None or not view.valid(began):
            view = self._distributor.load(self._deployment.max_nodes)
            begun = view.sessions.closing
        waiting = [message for body in bodies for message in self._admit(view, body)]
        if len(waiting) > 1:
            waiting.sort(key=_first)
        woken = any(isinstance(each, ServiceOrder) and each.only_wakes for each in waiting)
        if begun:
            waiting.append(ServiceOrder(tuple(sorted(begun))))
        while waiting:
            batch, waiting = self._commit(view, waiting)
            self._publish(view, batch, began)
        if woken:
            self._save(view)
        self._view = view

    def idle(self) -> None:
        """Save mark and checkpoint, when no message waits."""
        if self._view is not None:
            self._save(self._view)

    def _save(self, view: View) -> None:
        if self._deployment.distributor_queue is None:
            self._distributor.save(view)

    # ---- authentication ----------------------------------------------------------------

    def _admit(self, view: View, signed: bytes | Message) -> list[Message | ServiceOrder]:
        """The message, if its claimed sender made it; otherwise nothing, and a warning.

        A message that is not bytes comes from this process, which is trusted.
        """
        if isinstance(signed, Message):
            return [signed] if self._known(view, signed) else []
        body = trust.body(signed)
        try:
            if body[4:5] == b"{":
                trust.verify(self._deployment.key, signed)
                head, _ = codec.unframe(body)
                return [ServiceOrder(tuple(head["close"]), tuple(head["reap"]))]
            message = codec.to_message(body)
            admission.check(message)
            key = self._key(view, message)
            if key is None:
                return []
            trust.verify(key, signed)
        except (Malformed, trust.Forged, KeyError) as error:
            _logger.warning("dropped a message: %s", error)
            return []
        return [message]

    def _key(self, view: View, message: Message) -> bytes | None:
        if message.session == 0:
            opening = message.requests[0].operation if len(message.requests) == 1 else None
            if not isinstance(opening, Open) or len(opening.secret) != trust.KEY_BYTES:
                raise Malformed("a message without a session must hold one Open, with a secret")
            return opening.secret
        if not self._known(view, message):
            return None
        session = view.sessions.get(message.session)
        return None if session is None else self._secrets.unseal(session.sealed)

    def _known(self, view: View, message: Message) -> bool:
        """Whether a message opens a session, or its session exists."""
        if message.session == 0 or view.sessions.get(message.session) is not None:
            return True
        roll(view, self._log, self._deployment.clock)
        if view.sessions.get(message.session) is not None:
            return True
        fields = {"session": message.session}
        _logger.warning("dropped a message of the unknown session %d", message.session, extra=fields)
        return False

    # ---- validation and commit ---------------------------------------------------------

    def _commit(
        self, view: View, waiting: list[Message | ServiceOrder]
    ) -> tuple[Batch, list[Message | ServiceOrder]]:
        """Validate as many messages as fit one entry and append it; returns batch and rest."""
        caught_up = False
        most = self._deployment.limits.close_changes
        self._learn(view, set().union(*[needs_of(message, view, most) for message in waiting]))
        if sequential := sequential_paths(waiting, view):
            self._learn(view, sequential)
        while True:
            try:
                batch, left = self._validator.validate(view, waiting)
            except Missing as missing:
                self._learn(view, {missing.path})
                continue
            entry = batch.entry()
            if entry is None:
                if batch.uncertain and not caught_up:
                    caught_up = True
                    if roll(view, self._log, self._deployment.clock):
                        continue
                return batch, left
            if self._append(view, entry, batch):  # which proves the view was at the log's end
                return batch, left

    def _append(self, view: View, entry: Entry, batch: Batch) -> bool:
        """Append the entry; returns whether this call did. If not, the view was rolled forward."""
        clock = self._deployment.clock
        began = clock()
        present = False
        unknown: Unavailable | None = None
        try:
            view.check_age(began)
            age = began - batch.validated_at
            if not self._append_joined(view, entry, age):
                self._log.append(entry, age)
        except Conflict:
            present = True
        except Unavailable as error:
            _logger.info("the fate of entry %d is unknown: %s", entry.first, error)
            unknown = error
        else:
            early = not view.pending and self._joined is None and self._deployment.distributor_queue is None
            self._unknown = 0
            view.fold(entry)
            view.asof = began
            if early:
                batch.undelivered = self._distributor.answer_early(entry, self._due(view, batch.decided()))
            if self._joined is not None:
                view.settled(entry.last)
            if _logger.isEnabledFor(logs.INFO):
                sessions = [each.session for each in entry.answers]
                _logger.info("committed", extra={"txid": entry.last, "session": sessions})
            return True
        if roll(view, self._log, clock):
            self._unknown = 0
        elif present:
            raise StaleView(f"entry {entry.first} existed and is gone: the log was trimmed")
        elif unknown is not None:
            self._unknown += 1
            if self._unknown >= _UNKNOWN_FATES:
                raise unknown  # the queue repeats the call after a pause, and tells when it gives up
        return False

    def _append_joined(self, view: View, entry: Entry, age: int) -> bool:
        """Append the entry together with its records, if one call can do that.

        Raises what an append raises. False: not done; append the entry alone.
        """
        self._joined = None
        joint = self._deployment.joint
        if joint is None or self._deployment.distributor_queue is not None:
            return False
        joined = self._distributor.join(view, entry)
        if joined is None:
            return False
        append = self._log.write_of(entry, age)
        if append is None:
            self._distributor.forget()
            return False
        try:
            done = self._put_jointly(joint, (append, *joined.writes), entry.first)
        except BaseException:
            self._distributor.forget()
            raise
        if not done:
            self._distributor.forget()
            return False
        self._joined = joined.settled
        return True

    def _put_jointly(self, joint: Joint, writes: Sequence[Write], first: int) -> bool:
        """Put an entry, the first write, with its records; returns whether that was possible.

        Raises Conflict if the entry's key is taken. A record that is not as the driver expected is a
        conflict too. While the key is free, no process has written above the view's head, so these
        records are still right: try again now that the driver has looked.
        """
        for _ in range(_JOINT_TRIES):
            try:
                joint(writes)
            except Conflict:
                if self._log.at(first) is not None:
                    raise
            except TooLarge as error:
                _logger.warning("entry %d is put before its records: %s", first, error)
                return False
            else:
                return True
        return False

    def _learn(self, view: View, wanted: set[str]) -> None:
        """Add paths to the view; reads the unknown ones from user storage, in one call."""
        asked: list[str] = []
        above, lacks = "", None
        for each in sorted(wanted):
            if view.known(each) is not None or len(each) > paths.MAX_PATH_BYTES:
                continue
            parent = paths.parent(each)
            if view.childless(parent):
                continue
            if lacks is None or parent != above:  # many are children of one
                above, lacks = parent, self._distributor.contents.lacking(view, parent)
            if paths.invalid(each) or lacks(paths.name(each)):
                view.learn(each, Node(0, None))
            else:
                asked.append(each)
        if not asked:
            return
        for each, record in zip(asked, self._deployment.records.get_many(asked), strict=True):
            node = Node(0, None) if record is None else Node(record.txid, record.meta)
            if node.txid > view.head:
                roll(view, self._log, self._deployment.clock)
                if node.txid > view.head:
                    raise StaleView(f"{each} was written at {node.txid}, which is not in the log")
                return
            view.learn(each, node)

    # ---- after the commit ---------------------------------------------------------------

    def _due(self, view: View, answers: list[Answer]) -> list[Answer]:
        """The answers to deliver now, with those that waited for a session's last ephemeral."""
        closing = view.sessions.closing
        if not closing and not self._held:
            return answers
        answers = [*self._held, *answers]
        self._held = [each for each in answers if each.session in closing]
        return [each for each in answers if each.session not in closing]

    def _publish(self, view: View, batch: Batch, began: int) -> None:
        """Apply the batch and answer, or wake the distributor's function to do it."""
        answers = self._due(view, batch.decided()) if batch.undelivered is None else batch.undelivered
        for session in batch.dead:
            self._deployment.leases.drop(session)
        queue = self._deployment.distributor_queue
        if queue is None:
            groups = self._distributor.settle(view, began, doubtful=len(view.pending) > 1)
            if self._joined is not None:
                groups, self._joined = [self._joined, *groups], None
            epoch = groups[-1].epoch if groups else Epoch(view.applied, view.applied, ())
            if self._deployment.direct_channel is not None:
                self._deployment.direct_channel.settled()
            self._distributor.answer(answers, epoch)
            self._distributor.finish(groups, view)
            return
        view.sessions.discard_changes()
        entry = view.pending[-1] if view.pending else None
        queue.send("distributor", f"{view.head}", wake_up(entry, view.head, answers))
        if len(view.pending) > _MAX_PENDING:
            view.settled(self._deployment.checkpoints.applied())


def _first(message: Message | ServiceOrder) -> int:
    """A sort key that restores each session's order, and costs little if the queue is ordered."""
    if isinstance(message, ServiceOrder) or not message.requests:
        return 0
    return message.requests[0].cxid
