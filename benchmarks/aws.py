"""Latencies of operations on AWS: the real code in virtual time, with latencies measured on AWS.

The tables include the published figures for these operations.

This is a model, not a measurement of a cloud: it has no CPU time, cold starts or noisy neighbours.
``--draw FILE`` draws a figure. Run it with ``make bench-aws``.
"""

from __future__ import annotations

from benchmarks.clouds import Report, main
from benchmarks.model import Cloud, Setting
from faaskeeper.providers.aws.service import LOG_STRIPES

SQS, STANDARD, STREAM = (f"{each}.send_to_function" for each in ("sqs_fifo", "sqs", "dynamodb_stream"))
AWS = Cloud(
    "aws",
    "dynamodb",
    "s3",
    throttled={"dynamodb.write": 4096, "dynamodb.read": 65536},
    refuses=True,
    stripes=LOG_STRIPES,
)
SETTINGS = (
    Setting("key-value, direct", "key-value", "", tell=""),
    Setting("hybrid (default)", "hybrid", SQS, answer=STANDARD),
    Setting("hybrid, tcp", "hybrid", SQS),
    Setting("key-value", "key-value", SQS),
    Setting("persistent", "persistent", SQS),
    Setting("key-value, distributor behind sqs", "key-value", SQS, SQS),
    Setting("key-value, client channel sqs", "key-value", SQS, answer=STANDARD),
    Setting("key-value, watch inline", "key-value", SQS, tell=""),
    Setting("key-value, worker queue sqs-unordered", "key-value", STANDARD),
    Setting("key-value, worker queue dynamodb", "key-value", STREAM, batch=100),
)
"""All but the default have the client channel tcp, unless the name says so."""
TARGETS = {
    "key-value, direct": 12,
    "hybrid (default)": 80,
    "hybrid, tcp": 40,
    "key-value": 40,
    "persistent": 62,
    "key-value, distributor behind sqs": 65,
}
"""p50 of set_data with 1 KB, ms."""
_PUBLISHED = {"key-value": "aws.key-value", "persistent": "aws.persistent"}

if __name__ == "__main__":
    main(Report(AWS, SETTINGS, TARGETS, _PUBLISHED), __doc__)
