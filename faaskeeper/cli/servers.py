"""Asks servers that speak ZooKeeper's protocol (``fk serve``) by their four-letter words."""

from __future__ import annotations

import re

from faaskeeper.cli.errors import Failed

_WITHIN_S = 10.0
_MOST = 64 << 20


def ask(address: tuple[str, int], word: str) -> str:
    """The answer to a four-letter word. Raises Failed: there is none, or the server does not allow it."""
    import socket

    where = f"{address[0]}:{address[1]}"
    answer = b""
    try:
        with socket.create_connection(address, _WITHIN_S) as connection:
            connection.sendall(word.encode())
            while len(answer) < _MOST and (read := connection.recv(1 << 16)):
                answer += read
    except OSError as error:
        raise Failed(f"{where} does not answer: {error.strerror or error}", 1) from error
    text = answer.decode(errors="backslashreplace")
    if "is not in the whitelist" in text or not text:
        raise Failed(
            f"{where} does not answer {word!r}: fk serve does with --commands '{word},...' or '*', "
            f"ZooKeeper with 4lw.commands.whitelist",
            1,
        )
    return text


def peers(address: tuple[str, int]) -> dict[int, str]:
    """The addresses of a server's clients, by session."""
    found = re.findall(r"^ /(\S+?)\[\d\]\(.*?sid=0x([0-9a-f]+)", ask(address, "cons"), re.MULTILINE)
    return {int(session, 16): peer for peer, session in found}


def numbers(address: tuple[str, int]) -> dict[str, float]:
    """What a server counts: the numbers of ``mntr``, by name without ``zk_``."""
    rows = re.findall(r"^zk_(\w+)\t([0-9.]+)$", ask(address, "mntr"), re.MULTILINE)
    return {name: float(value) for name, value in rows}
