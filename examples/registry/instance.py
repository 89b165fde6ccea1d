"""An instance of a service that says where it is: ``python instance.py SERVICE NAME [CONFIG]``."""

from __future__ import annotations

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from faaskeeper.client import FaaSKeeperClient, SessionState
from faaskeeper.config import Config
from faaskeeper.exceptions import FaaSKeeperException

AGAIN_S = 1


def serve(name: str) -> str:
    """Start an HTTP server that tells its name; returns its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            said = f"hello from {name}\n".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, format: str, *arguments: object) -> None:
            """Do not log requests."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"127.0.0.1:{server.server_port}"


def main() -> None:
    """Serve, and be registered as long as this process lives."""
    service, name = sys.argv[1:3]
    config = Config.load(sys.argv[3] if len(sys.argv) > 3 else "service.json")
    entry = json.dumps({"name": name, "address": serve(name), "process": os.getpid()}).encode()
    while True:
        lost = threading.Event()
        try:
            with FaaSKeeperClient(config) as client:
                client.add_listener(lambda state: lost.set() if state is SessionState.LOST else None)
                client.create(
                    f"/services/{service}/i-", entry, ephemeral=True, sequential=True, makepath=True
                )
                print(f"{name} is registered", flush=True)
                lost.wait()
        except FaaSKeeperException as error:
            print(f"{name} registers again: {error}", flush=True)
            threading.Event().wait(AGAIN_S)


if __name__ == "__main__":
    main()
