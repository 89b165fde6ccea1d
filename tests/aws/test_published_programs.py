"""Programs for the published client run on AWS as they are, with only the configuration's file exchanged."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from faaskeeper.config import Config
from tests.aws.system import System
from tests.client.test_published_api import (  # noqa: F401
    test_a_created_node_is_read_with_its_versions,
    test_a_node_and_its_versions_go_to_json,
    test_a_session_has_an_id_and_a_status,
    test_a_watch_is_called_once_with_the_event,
    test_asynchronous_twins_return_futures,
    test_children_come_in_order_with_what_was_asked_for,
    test_missing_nodes_and_parents_are_errors,
    test_setting_raises_modified_and_leaves_created,
)


@pytest.fixture(params=["tcp", "sqs"])
def config(request: pytest.FixtureRequest, ministack: str) -> Iterator[Config]:
    """A deployment of its own for each program, as its file says."""
    system = System(ministack, {"client-channel": request.param})
    path = system.directory / "config.json"
    path.write_text(json.dumps(system.data))
    yield Config.load(path)
    system.stop()
