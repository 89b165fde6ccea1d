"""Latencies of operations on Google Cloud: the real code in virtual time, with measured latencies.

Reads and Pub/Sub were measured. Single writes were not. The published system's stages are upper
bounds for them, and this model uses these bounds:

* a commit to Datastore: the *lock* stage, a transaction with begin, reads and commit, less two
  reads; a larger one takes longer by as much as larger reads do;
* a write to Cloud Storage: the *update* stage, which writes an object and may read it first;
* the reply over TCP: as on AWS.

This is a model, not a measurement of a cloud: it has no CPU time, cold starts or noisy neighbours.
``--draw FILE`` draws a figure. Run it with ``make bench-gcp``.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.clouds import Report, main
from benchmarks.model import Cloud, Setting

PUBSUB, ORDERED = "pubsub.send_to_function", "pubsub_ordered.send_to_function"
GCP = Cloud(
    "gcp",
    "datastore",
    "cloud_storage",
    between_ms=0.0,  # a push has one message, and no event source deletes and receives
    bounds={
        "datastore.write": ("stages.gcp.persistent.4", "lock", "datastore.read", 2),
        "cloud_storage.write": ("stages.gcp.persistent.4", "exec_update", "", 0),
    },
    also={"tcp.round_trip": "aws"},
    item_bytes=1008 * 1024,
    entry_bytes=896 * 1024,
    entry_paths=240,
)
_USUAL = Setting("hybrid, tcp", "hybrid", PUBSUB, tell=PUBSUB, batch=80, inline_bytes=64 * 1024, joint=True)
"""``batch``: so many requests an instance of a function serves at a time."""
SETTINGS = (
    replace(_USUAL, name="hybrid, direct", hop="", tell=""),
    replace(_USUAL, name="hybrid (default)", answer=PUBSUB),
    _USUAL,
    replace(_USUAL, name="key-value", user_storage="key-value"),
    replace(_USUAL, name="persistent", user_storage="persistent", joint=False),
    replace(_USUAL, name="hybrid, distributor behind pubsub", distributor_hop=PUBSUB, joint=False),
    replace(_USUAL, name="hybrid, watch inline", tell=""),
    replace(_USUAL, name="hybrid, worker queue pubsub-ordered", hop=ORDERED),
    replace(_USUAL, name="hybrid, entry and records in two calls", joint=False),
)
"""All but the default have the client channel tcp."""
TARGETS = {"hybrid, direct": 110, "hybrid (default)": 145, "hybrid, tcp": 110, "key-value": 110}
"""p50 of set_data with 1 KB, ms."""
_PUBLISHED = {"persistent": "gcp.persistent"}

if __name__ == "__main__":
    main(Report(GCP, SETTINGS, TARGETS, _PUBLISHED), __doc__)
