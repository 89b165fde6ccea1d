"""Removes a deployment's stack in any state, with what it leaves, and what a first deployment left.

Each step may be interrupted: the next run lists what is still there. While the stack exists it lists
its resources. What outlives it is known by its name and the deployment's tag.
"""

from __future__ import annotations

from collections.abc import Collection

from faaskeeper.core.checkpoint import Checkpoints
from faaskeeper.core.errors import Denied, DriverError
from faaskeeper.core.log import PARTITION, key, partitions
from faaskeeper.deploy.aws.buckets import Buckets
from faaskeeper.deploy.aws.leftovers import BUCKET, TABLE, Left, Leftovers
from faaskeeper.deploy.aws.stack import ABSENT, REVIEW, Held, Stack, StackFailed
from faaskeeper.deploy.aws.template import template
from faaskeeper.deploy.deployment import Progress
from faaskeeper.exceptions import ProviderException
from faaskeeper.providers.aws.channels import leftovers as client_queues
from faaskeeper.providers.aws.service import AwsService

_POLICY = "AWS::IAM::ManagedPolicy"
_ROLE = "AWS::IAM::Role"
_TRIES = 2
"""Attempts to delete a stack before what it cannot delete is left to :class:`Leftovers`."""


class Removal:
    """Removes a deployment. ``account``: the account's number."""

    def __init__(self, service: AwsService, stack: Stack, leftovers: Leftovers, account: str) -> None:
        self._service = service
        self._aws = service.aws
        self._stack = stack
        self._left = leftovers
        self._buckets = Buckets(service.aws)
        name = service.names.deployment
        pseudo = {
            "AWS::StackName": name,
            "AWS::AccountId": account,
            "AWS::Region": service.config.deployment_region,
        }
        self._lasting = [Left(each.kind, called) for each, called in template().lasting(pseudo)]

    # ---- what exists ---------------------------------------------------------------------

    def held(self) -> list[Held]:
        """The resources of the stack."""
        return [] if self._stack.status() in ABSENT else self._stack.resources()

    def outlived(self) -> list[Left]:
        """Resources of the deployment without a stack."""
        own = {each.name for each in self.held()}
        return self._left.found(each for each in self._lasting if each.name not in own)

    def data(self, status: str) -> str:
        """Where the deployment holds what clients have written; empty: nowhere.

        A client's first write appends to the log, where entries stay for seven days, and raises
        the mark in the checkpoint, which stays. ``status``: of the stack; while one is created, any
        table may be missing, but one that is deleted may have lost these two first. Raises
        DriverError if they cannot be read.
        """
        log, checkpoint, records = map(self._service.names.table, ("log", "checkpoint", "records"))
        names = (log, checkpoint, records)
        found = {each.name for each in self._left.found((Left(TABLE, each) for each in names), names)}
        if log in found and self._entries(checkpoint in found):
            return f"the table {log} has entries"
        table = self._service.table("checkpoint")
        if checkpoint in found and Checkpoints(table, expiring=True).applied():
            return f"the table {checkpoint} has a mark"
        if status == "DELETE_FAILED" and records in found and len(found) < len(names):
            return f"the table {records} may have znodes, of which the others are gone"
        return ""

    def _entries(self, published: bool) -> bool:
        """Whether the log has any. ``published``: the table that says how it is laid out is there."""
        table = self._service.table("log")
        stripes = max(self._service.stripes() if published else 1, self._service.log_stripes)
        return any(table.query(each, key(0), 1).items for each in {PARTITION, *partitions(stripes)})

    # ---- a first deployment that failed ----------------------------------------------------

    def clean_up(self, status: str, progress: Progress) -> None:
        """Remove what a failed creation left, if it holds no data. Raises ProviderException."""
        name = self._stack.name
        try:
            data = self.data(status)
        except DriverError as error:
            raise ProviderException(
                f"the stack {name} is {status}, and whether it holds data cannot be read: {error}. "
                "If it holds none, remove it with --clean, then deploy"
            ) from error
        if data:
            raise ProviderException(
                f"the stack {name} is {status}, so that it can only be deleted, but {data}: save what "
                "is there with 'fk export' if clients can still read, then --clean"
            )
        progress(f"an earlier deployment failed ({status}) and holds no data: removing what it left")
        self.remove(progress)

    # ---- removing ------------------------------------------------------------------------

    def attached(self) -> list[str]:
        """Users, groups and roles outside the stack to which the stack's policies are attached."""
        held = self.held()
        iam, found = self._aws.client("iam"), []
        own = {each.name for each in held if each.kind == _ROLE}
        for policy in (each.name for each in held if each.kind == _POLICY and each.name):
            try:
                answer = self._aws.call("policies", iam.list_entities_for_policy, PolicyArn=policy)
            except Denied as error:
                if "NoSuchEntity" in str(error):
                    continue
                raise
            for kind in ("User", "Group", "Role"):
                for each in answer.get(f"Policy{kind}s", ()):
                    if each[f"{kind}Name"] not in own:
                        found.append(f"{policy} is attached to the {kind.lower()} {each[f'{kind}Name']}")
        return found

    def remove(self, progress: Progress) -> None:
        """Remove the clients' queues, the stack, and what outlives it."""
        if self._stack.settle(progress) == REVIEW:
            self._stack.discard("")
        others = self.attached()
        if others:
            raise ProviderException("detach these policies first: " + "; ".join(others))
        self._remove_client_queues(progress)
        held = self.held()
        known = {each.name for each in held}
        if held or self._stack.status() not in ABSENT:
            self._delete_stack(held, progress)
        lasting = [*self._lasting, *(Left(each.kind, each.name) for each in held if each.name)]
        for left in self._left.found((each for each in lasting if each.kind in Leftovers.KINDS), known):
            self._left.delete(left, progress)

    def _remove_client_queues(self, progress: Progress) -> None:
        lease = Left(TABLE, self._service.names.table("lease"))
        if self._left.found([lease], [lease.name]):
            for address in client_queues(self._aws, self._service.table("lease"), None, 0):
                progress(f"deleted the queue {address}")

    def _delete_stack(self, held: Collection[Held], progress: Progress) -> None:
        """Delete the stack; at last without the resources that it cannot delete itself."""
        for _ in range(_TRIES):
            self._open(held, progress)
            try:
                self._stack.delete(progress)
                return
            except StackFailed as error:
                failed = error
            held = self.held()
            if self._stack.status() != "DELETE_FAILED":
                raise failed
        kept = [each for each in held if each.status == "DELETE_FAILED"]
        if not kept or any(each.kind not in Leftovers.KINDS for each in kept):
            raise failed
        progress(f"deleting the stack without {', '.join(each.logical for each in kept)}")
        self._stack.delete(progress, [each.logical for each in kept])

    def _open(self, held: Collection[Held], progress: Progress) -> None:
        """Remove what keeps the stack from being deleted: protection, and objects in buckets."""
        self._stack.protect(False)
        self._left.unprotect(each.name for each in held if each.kind == TABLE and each.name)
        for each in held:
            if each.kind == BUCKET and each.name and self._buckets.exists(each.name):
                self._buckets.empty(each.name, progress)
