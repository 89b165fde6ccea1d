"""What a program tells systemd, which started it as a service of ``Type=notify``."""

from __future__ import annotations

import os


def notify(state: str) -> None:
    """Tell systemd a state, such as ``READY=1``; nothing if it does not wait for one.

    The protocol is that of sd_notify(3): a datagram to the socket in $NOTIFY_SOCKET, whose name
    begins with ``@`` if it is abstract. An error is not ours: systemd notices that nothing came.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as opened:
        try:
            opened.connect("\0" + address[1:] if address[0] == "@" else address)
            opened.sendall(state.encode())
        except OSError:
            pass
