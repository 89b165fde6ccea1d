"""ZooKeeper's own servers, and ``fk serve``, as a deployment: ``zk://host:port[,...][/chroot]``.

From the bottom up; a module imports only those that come before it:

* ``address``: the ``zk://`` form and the section of a configuration
* ``wire``: requests as bytes and replies from bytes, the counterpart of ``gateway.protocol``
* ``watches``: the watches of a session, by ZooKeeper's rules
* ``link``: the connection, and the session that outlives it
* ``session``, ``calls``: what the client asks a session for
* ``client``: :class:`~faaskeeper.zookeeper.client.ZooKeeperClient`, which
  :class:`~faaskeeper.client.FaaSKeeperClient` becomes for such a configuration

A ZooKeeper server has no log, stores and queues to connect to, so all that needs a
:class:`~faaskeeper.core.connection.Connection` refuses these configurations here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from faaskeeper.core.errors import Denied

if TYPE_CHECKING:
    from faaskeeper.config import Config


def connect(config: Config, port: int) -> NoReturn:
    """Refuse: only commands and programs that use znodes work on a ZooKeeper server."""
    raise Denied(
        f"{config.deployment_name} is a ZooKeeper server: it has znodes and nothing else, and this needs "
        "a deployment of FaaSKeeper"
    )
