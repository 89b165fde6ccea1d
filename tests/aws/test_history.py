"""On a cloud the past is read from the log that clients may read, and from records as they are."""

from __future__ import annotations

import pytest

from faaskeeper.exceptions import BeforeHistoryException
from tests.aws.system import System
from tests.remembered import Remembered


def test_each_state_of_a_random_program_is_found_again_on_aws(ministack: str) -> None:
    system = System(ministack, {})
    try:
        client = system.client()
        client.start()
        program = Remembered(client, 1, larger=600_000)
        for _ in range(12):
            program.write()
        assert program.agree(0) == len(program.states)
        rows = list(client.history("/", recursive=True))
        assert rows == list(client.history("/", recursive=True, newest_first=False))[::-1]
        assert {row.session for row in rows} == {client.session_id}
    finally:
        system.stop()


def test_what_expired_from_the_log_is_said_to_be_out_of_reach(ministack: str) -> None:
    system = System(ministack, {})
    try:
        client = system.client()
        client.start()
        cold = client.create("/cold", b"1").stat.mzxid
        warm = client.create("/warm", b"1").stat.mzxid
        client.set_data("/cold", b"2")
        log = client.connection.log
        log.trim([entry for entry in log.after(0)[0] if entry.last <= cold])
        with pytest.raises(BeforeHistoryException, match=f"begins at transaction {cold}"):
            client.get_data("/warm", at=cold - 1)
        with pytest.raises(BeforeHistoryException, match="is not retained"):
            client.get_data("/cold", at=warm)
        assert client.get_data("/warm", at=warm).data == b"1"
        assert client.exists("/warm") is not None
        assert [row.kind for row in client.history("/cold")] == ["set"]
    finally:
        system.stop()
