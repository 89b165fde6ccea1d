"""FaaSKeeper: ZooKeeper's tree, sessions, watches and ordering, run by cloud functions.

Users import :mod:`faaskeeper.client`; authors of providers import :mod:`faaskeeper.core`. Importing
this package does no work.
"""

__version__ = "0.1.0"
