"""What a provider implements to ring a function: :class:`Queue`."""

from __future__ import annotations

from typing import Protocol


class Queue(Protocol):
    """Hands messages to a function, at least once each.

    The provider's adapter decodes its trigger's event into the bodies sent here. Messages may come
    twice, late and (where ``ordered`` is False) in any order: core trusts no queue's order and uses
    it only to send less. ``send`` may be called from several threads at once.
    """

    ordered: bool
    """Whether messages of one group normally arrive in the order in which they were sent."""

    max_message_bytes: int

    def send(self, group: str, identity: str, body: bytes) -> None:
        """Queue a message.

        ``group``: messages of one group are handled one batch at a time, where the queue can do that;
        ``identity``: a queue that removes duplicates may do so by this. Raises TooLarge, Throttled,
        Denied (nothing was queued) or Unavailable (unknown).
        """
