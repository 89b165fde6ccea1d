"""An HTTP server whose answers depend on flags: ``python server.py HOST:PORT [CONFIG]``.

``GET /FLAG/USER`` answers ``on`` or ``off``.
"""

from __future__ import annotations

import asyncio
import sys

from flags import Flags

from faaskeeper.config import Config


async def main() -> None:
    """Serve until the end of the process."""
    host, _, port = sys.argv[1].rpartition(":")
    flags = Flags(Config.load(sys.argv[2] if len(sys.argv) > 2 else "service.json"))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        words = (await reader.readline()).decode().split()
        while (await reader.readline()).strip():
            pass  # headers
        flag, _, user = words[1].strip("/").partition("/")
        said = "on\n" if flags.on(flag, user) else "off\n"
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(said)}\r\n\r\n{said}".encode())
        await writer.drain()
        writer.close()

    following = asyncio.create_task(flags.follow())
    await flags.loaded.wait()
    server = await asyncio.start_server(answer, host, int(port))
    print(f"serving on {sys.argv[1]}", flush=True)
    async with server:
        await following


if __name__ == "__main__":
    asyncio.run(main())
