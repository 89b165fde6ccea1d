"""The provider-neutral heart of FaaSKeeper. Standard library only.

The protocol and its arguments are in ``docs/architecture.md``. Read the modules in this
order: :mod:`~faaskeeper.core.znode`, :mod:`~faaskeeper.core.requests`,
:mod:`~faaskeeper.core.transactions` (the pure judge), :mod:`~faaskeeper.core.log`,
:mod:`~faaskeeper.core.view`, :mod:`~faaskeeper.core.writer`,
:mod:`~faaskeeper.core.distributor`. What a provider implements is in
:mod:`~faaskeeper.core.storage`, :mod:`~faaskeeper.core.queue` and
:mod:`~faaskeeper.core.channel`.
"""
