"""The provider-neutral core of FaaSKeeper. It uses the standard library only.

The protocol and its arguments are in ``docs/architecture.md``. Read the modules in this order:
:mod:`~faaskeeper.core.znode`, :mod:`~faaskeeper.core.requests`,
:mod:`~faaskeeper.core.transactions` (a pure function), :mod:`~faaskeeper.core.log`,
:mod:`~faaskeeper.core.view`, :mod:`~faaskeeper.core.writer`, :mod:`~faaskeeper.core.distributor`. A
provider implements the protocols in :mod:`faaskeeper.core.drivers`.
"""
