"""The targets, as the Functions Framework looks for them."""

from faaskeeper.providers.gcp.functions import distributor, heartbeat, watch, writer

__all__ = ["distributor", "heartbeat", "watch", "writer"]
