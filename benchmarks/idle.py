"""Idle ZooKeeper sessions from one process: ``python -m benchmarks.idle PORT NUMBER``.

Opens the sessions, prints a line, and pings each every third of its time-out until standard input
ends. It implements the protocol itself, because a thousand kazoo clients are thousands of threads.
"""

from __future__ import annotations

import asyncio
import struct
import sys

TIMEOUT_MS = 10_000
_PING = struct.pack(">iii", 8, -2, 11)


async def session(port: int, ready: asyncio.Semaphore) -> None:
    """One session."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = struct.pack(">iqiqi", 0, 0, TIMEOUT_MS, 0, 16) + bytes(17)
    writer.write(struct.pack(">i", len(body)) + body)
    await reader.readexactly(4 + 37)
    ready.release()
    while True:
        await asyncio.sleep(TIMEOUT_MS / 3000)
        writer.write(_PING)
        await reader.readexactly(4 + 16)


async def main(port: int, number: int) -> None:
    """Open sessions until standard input ends."""
    ready = asyncio.Semaphore(0)
    tasks = []
    for _ in range(number):
        tasks.append(asyncio.create_task(session(port, ready)))
        await ready.acquire()
    print("open", flush=True)
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    done, _ = await asyncio.wait([*tasks, ended], return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
