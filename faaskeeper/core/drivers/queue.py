"""The protocol through which a provider triggers a function: :class:`Queue`."""

from __future__ import annotations

from typing import Protocol


class Queue(Protocol):
    """Delivers messages to a function, each at least once.

    The provider's adapter decodes its trigger's event into the bodies sent here. Messages may
    arrive twice, late and (if ``ordered`` is False) in any order. Core does not rely on the order;
    it only saves messages. ``send`` may be called from several threads at once.
    """

    ordered: bool
    """Whether messages of one group normally arrive in the order in which they were sent."""

    max_message_bytes: int

    def send(self, group: str, identity: str, body: bytes) -> None:
        """Queue a message.

        ``group``: messages of one group are handled one batch at a time, if the queue supports it;
        ``identity``: a queue may use it to remove duplicates. Raises TooLarge, Throttled, Denied
        (nothing was queued) or Unavailable (unknown).
        """
