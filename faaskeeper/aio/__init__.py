"""The client for asyncio: ``from faaskeeper.aio import AsyncClient``."""

from faaskeeper.aio.client import AsyncClient
from faaskeeper.session.states import SessionState, Ticket

__all__ = ["AsyncClient", "SessionState", "Ticket"]
