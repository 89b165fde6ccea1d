"""ZooKeeper's wire protocol in front of a deployment: any ZooKeeper client works on FaaSKeeper as it is.

:mod:`~faaskeeper.gateway.jute` and :mod:`~faaskeeper.gateway.protocol` are the protocol as bytes,
:mod:`~faaskeeper.gateway.wire` is one connection, :mod:`~faaskeeper.gateway.reads` what is answered
without the writer, :mod:`~faaskeeper.gateway.sessions` and :mod:`~faaskeeper.gateway.hub` are the way to
the service, and :mod:`~faaskeeper.gateway.server` is the process. The argument stands in
``docs/architecture/gateway.md``.
"""
