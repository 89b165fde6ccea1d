"""A whole deployment on the emulators: the real handlers in processes of their own, rung by pollers."""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

from faaskeeper.config import Config
from faaskeeper.providers.aws.clients import Aws
from faaskeeper.providers.aws.service import connect
from faaskeeper.testing.emulation import lambdas
from tests.aws import backends
from tests.deployment import Deployment

TABLES = ("log", "checkpoint", "records", "lease", "watch", "heartbeat", "settings")
HANDLERS = "faaskeeper.providers.aws.functions"
FUNCTIONS = ("writer", "distributor", "watch", "heartbeat")


class System(Deployment):
    """A deployment of one configuration.

    ``twice``: the chance that a queue delivers a batch again that was done. ``watch_inline``: who distributes
    tells watchers, too. ``handlers``: the module of the functions' handlers. ``visibility_s``: of messages
    that are being handled.
    """

    def __init__(
        self,
        endpoint: str,
        options: dict[str, Any],
        *,
        twice: float = 0.0,
        watch_inline: bool = False,
        handlers: str = HANDLERS,
        visibility_s: int = 2,
    ) -> None:
        self.endpoint = endpoint
        super().__init__()
        self._stack = ExitStack()
        self.directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="system-")))
        self.name = f"fk-{uuid4().hex[:8]}"
        self._clients: list[Any] = []
        worker, distributor = options.get("worker-queue", "sqs"), options.get("distributor-queue", "inline")
        for short in TABLES:
            backends.create_table(endpoint, f"{self.name}-{short}", ttl=short == "log")
        section: dict[str, Any] = {"data-bucket": backends.create_bucket(endpoint), "peer": "127.0.0.1"}
        if options.get("client-channel") == "tcp":
            section["client-networks"] = ["127.0.0.0/8"]
        rung: list[tuple[str, str]] = []
        for which, kind in (("worker", worker), ("distributor", distributor)):
            if kind == "dynamodb":
                backends.create_table(endpoint, f"{self.name}-{which}-queue", stream=True, ttl=True)
                rung.append((which, ""))
                if which == "worker":
                    section["worker-queue-table"] = f"{self.name}-worker-queue"
            elif kind != "inline":
                end = "" if kind == "sqs-unordered" else ".fifo"
                dead = backends.create_queue(endpoint, f"{self.name}-{which}-dead{end}")
                url = backends.create_queue(
                    endpoint,
                    f"{self.name}-{which}{end}",
                    dead_letters=dead,
                    visibility_s=visibility_s,
                )
                section[f"{which}-queue-url"] = url
                rung.append((which, url))
        self.data = {
            "cloud-provider": "aws",
            "deployment-name": self.name,
            "deployment-region": backends.REGION,
            **options,
            "aws": {**section, "endpoint-url": endpoint},
        }
        self.config = Config.deserialize(self.data)
        environment = {
            **backends.KEYS,
            "AWS_ENDPOINT_URL": endpoint,
            "FAASKEEPER_CONFIG": json.dumps(
                {
                    **self.data,
                    "worker-queue": "sqs" if worker == "direct" else worker,
                    "aws": {
                        **section,
                        **({} if watch_inline else {"watch-function": f"{self.name}-watch"}),
                    },
                }
            ),
            "FAASKEEPER_LOG_LEVEL": "INFO",
            "AWS_LAMBDA_LOG_FORMAT": "JSON",
            "AWS_LAMBDA_LOG_LEVEL": "INFO",
            "PYTHONPATH": str(Path(__file__).parent.parent.parent),
        }
        self.functions: dict[str, lambdas.Function] = {}
        invoker = lambdas.Invoker(self.functions)
        for which in FUNCTIONS:
            name = f"{self.name}-{which}"
            self.functions[name] = lambdas.Function(
                name,
                f"{handlers}.{which}",
                {**environment, "AWS_ENDPOINT_URL_LAMBDA": invoker.endpoint},
                self.directory / which,
            )
        self._aws = Aws(backends.REGION, endpoint=endpoint)
        self.connect = lambda config, port: connect(config, port, self._aws)
        self._pollers: list[lambdas.Poller] = []
        pollers: list[lambdas.Poller] = []
        for which, url in rung:
            function = self.function("writer" if which == "worker" else "distributor")
            if url:
                poller: lambdas.Poller = lambdas.SqsPoller(function, self._client("sqs"), url, twice=twice)
            else:
                poller = lambdas.StreamPoller(
                    function,
                    self._client("dynamodb"),
                    self._client("dynamodbstreams"),
                    f"{self.name}-{which}-queue",
                    twice=twice,
                )
            pollers.append(poller)
        self._invoker = invoker
        try:
            self._begin()
        except BaseException:
            self.stop()
            raise
        for poller in pollers:
            poller.start()
            self._pollers.append(poller)

    def _begin(self) -> None:
        """Have heartbeat begin the deployment; it is called again where its stores fail."""
        for left in reversed(range(10)):
            try:
                self.beat()
            except lambdas.CallFailed:
                if not left:
                    raise
            else:
                return

    def _client(self, service: str) -> Any:
        self._clients.append(backends.raw(service, self.endpoint))
        return self._clients[-1]

    def function(self, which: str) -> lambdas.Function:
        """A function, by its short name."""
        return self.functions[f"{self.name}-{which}"]

    def output(self, which: str) -> str:
        """What a function said."""
        return (self.directory / which).read_text()

    def beat(self) -> None:
        """See :class:`Harness`."""
        self.function("heartbeat").call({})

    def crash(self) -> None:
        """See :class:`Harness`."""
        for which in ("writer", "distributor", "watch"):
            self.function(which).crash()

    def stop(self) -> None:
        """End everything."""
        self.stop_clients()
        for poller in self._pollers:
            poller.stop()
        self._invoker.stop()
        for function in self.functions.values():
            function.stop()
        for client in self._clients:
            client.close()
        self._aws.close()
        self._stack.close()
