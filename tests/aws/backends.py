"""The backends of the tests: emulators in processes of their own, and AWS clients of them.

`make setup` installs them beside the virtual environment's Python.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import botocore.config

from faaskeeper.providers.aws.clients import Aws
from faaskeeper.providers.aws.tables import PARTITION, SORT, TTL
from tests.backends import JAVA, free_port, needs, process

REGION = "eu-central-1"
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION}
MINISTACK = Path(sys.prefix) / "ministack" / "bin" / "ministack"
DYNAMODB_LOCAL = Path(sys.prefix) / "dynamodb-local" / "DynamoDBLocal.jar"


@contextmanager
def ministack(**environment: str) -> Iterator[str]:
    """ministack: DynamoDB with streams, S3, SQS, Lambda, CloudFormation, IAM and more."""
    needs("ministack", MINISTACK.exists())
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="ministack-") as directory:
        settings = {
            "GATEWAY_PORT": str(port),
            "BIND_HOST": "127.0.0.1",
            "SFTP_ENABLED": "0",
            "IOT_MTLS_ENABLED": "0",
            "LOG_LEVEL": "WARNING",
            "MINISTACK_REGION": REGION,
            "PATH": f"{MINISTACK.parent}:{os.environ['PATH']}",
            **environment,
        }
        url = f"http://127.0.0.1:{port}"
        command = [str(MINISTACK.with_name("python")), str(Path(__file__).with_name("emulator.py"))]
        with process(command, settings, url, Path(directory)):
            yield url


@contextmanager
def dynamodb_local() -> Iterator[str]:
    """Amazon's own emulator of DynamoDB."""
    needs("DynamoDB Local", DYNAMODB_LOCAL.exists() and shutil.which("java"))
    port = free_port()
    home = DYNAMODB_LOCAL.parent
    command = ["java", f"-Djava.library.path={home / 'DynamoDBLocal_lib'}", "-jar", str(DYNAMODB_LOCAL)]
    command += ["-inMemory", "-sharedDb", "-port", str(port), "-disableTelemetry"]
    with tempfile.TemporaryDirectory(prefix="dynamodb-") as directory:
        url = f"http://127.0.0.1:{port}"
        with process(command, JAVA, url, Path(directory)):
            yield url


def raw(service: str, endpoint: str) -> Any:
    """A client for what tests set up, with no part of the code under test in it."""
    return boto3.client(
        service,
        region_name=REGION,
        endpoint_url=endpoint,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=botocore.config.Config(s3={"addressing_style": "path"}),
    )


def create_table(endpoint: str, name: str, *, stream: bool = False, ttl: bool = False) -> None:
    """A table as the template has it."""
    dynamodb = raw("dynamodb", endpoint)
    keys = [(PARTITION, "HASH"), (SORT, "RANGE")]
    extra: dict[str, Any] = {}
    if stream:
        extra["StreamSpecification"] = {"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"}
    dynamodb.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": each, "KeyType": kind} for each, kind in keys],
        AttributeDefinitions=[{"AttributeName": each, "AttributeType": "S"} for each, _ in keys],
        BillingMode="PAY_PER_REQUEST",
        **extra,
    )
    if ttl:
        specification = {"Enabled": True, "AttributeName": TTL}
        dynamodb.update_time_to_live(TableName=name, TimeToLiveSpecification=specification)
    dynamodb.close()


def create_queue(
    endpoint: str, name: str, *, visibility_s: int = 2, dead_letters: str = "", tries: int = 50
) -> str:
    """A queue; returns its URL."""
    sqs = raw("sqs", endpoint)
    attributes = {"VisibilityTimeout": str(visibility_s)}
    if name.endswith(".fifo"):
        attributes["FifoQueue"] = "true"
    if dead_letters:
        told = sqs.get_queue_attributes(QueueUrl=dead_letters, AttributeNames=["QueueArn"])
        arn = told["Attributes"]["QueueArn"]
        attributes["RedrivePolicy"] = f'{{"deadLetterTargetArn": "{arn}", "maxReceiveCount": "{tries}"}}'
    url: str = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    sqs.close()
    return url


def create_bucket(endpoint: str) -> str:
    """A bucket of a new name."""
    name = f"bucket-{uuid4().hex[:12]}"
    s3 = raw("s3", endpoint)
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.close()
    return name


@contextmanager
def aws(endpoint: str) -> Iterator[Aws]:
    """The code's own way to call an endpoint."""
    made = Aws(REGION, endpoint=endpoint)
    yield made
    made.close()
