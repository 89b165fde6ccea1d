"""What operations take on Google Cloud: the real code in virtual time, on latencies measured there.

Reads, and the ways through Pub/Sub, were measured. Writes were not, alone; the stages of the published system
bound them from above, and these bounds are what is drawn here:

* a commit to Datastore: its *lock* stage, a transaction that begins, reads and commits, less two reads;
* a write to Cloud Storage: its *update* stage, which writes an object and may read it before;
* the answer by TCP: as on AWS.

Not a measurement of a cloud: no processor, no cold start and no neighbour is in it. ``--draw FILE`` makes a
picture. Run by ``make bench-gcp``.
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
    between_ms=0.0,  # a push brings one message, and there is no event source that deletes and receives
    bounds={
        "datastore.write": ("stages.gcp.persistent.4", "lock", "datastore.read", 2),
        "cloud_storage.write": ("stages.gcp.persistent.4", "exec_update", "", 0),
    },
    also={"tcp.round_trip": "aws"},
)
_USUAL = Setting(
    "hybrid (default)", "hybrid", PUBSUB, tell=PUBSUB, batch=500, inline_bytes=64 * 1024, joint=True
)
SETTINGS = (
    replace(_USUAL, name="hybrid, direct", hop="", tell=""),
    _USUAL,
    replace(_USUAL, name="key-value", user_storage="key-value"),
    replace(_USUAL, name="persistent", user_storage="persistent", joint=False),
    replace(_USUAL, name="hybrid, distributor behind pubsub", distributor_hop=PUBSUB, joint=False),
    replace(_USUAL, name="hybrid, client channel pubsub", answer=PUBSUB),
    replace(_USUAL, name="hybrid, watch inline", tell=""),
    replace(_USUAL, name="hybrid, worker queue pubsub-ordered", hop=ORDERED),
    replace(_USUAL, name="hybrid, entry and records in two calls", joint=False),
)
TARGETS = {"hybrid, direct": 110, "hybrid (default)": 110, "key-value": 110}
"""p50 of set_data with 1 KB, ms."""
_PUBLISHED = {"persistent": "gcp.persistent"}

if __name__ == "__main__":
    main(Report(GCP, SETTINGS, TARGETS, _PUBLISHED), __doc__)
