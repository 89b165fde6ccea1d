"""The client library: ``from faaskeeper.client import FaaSKeeperClient``."""

from faaskeeper.client.client import FaaSKeeperClient
from faaskeeper.client.futures import Future
from faaskeeper.session.states import SessionState, Ticket

__all__ = ["FaaSKeeperClient", "Future", "SessionState", "Ticket"]
