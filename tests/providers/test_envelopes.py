"""What clients and functions send each other can be read by its receiver alone."""

from __future__ import annotations

import threading
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from typing import Any

import pytest

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.core import codec, trust
from faaskeeper.core.acl import digest
from faaskeeper.core.errors import Code, Unavailable
from faaskeeper.core.requests import Create, Message, Open, Request, inline
from faaskeeper.exceptions import NoAuthException, ProviderException
from faaskeeper.providers.cloud import envelopes, seals
from faaskeeper.providers.cloud.envelopes import SealedChannel, SealedClientChannel, SealedQueue, bare, opened
from faaskeeper.providers.cloud.seals import KEPT, LOOK_AGAIN_MS, REFRESH_MS, PrivateKeys, PublishedKey, renew
from faaskeeper.providers.memory import MemoryTable
from faaskeeper.providers.tcp import TcpChannel, TcpClientChannel
from faaskeeper.testing.conformance.drivers import ChannelSuite
from faaskeeper.testing.patience import PATIENCE_S
from tests.paper import Paper, paper

PASSWORD = "in wonderland, behind the looking-glass"
ALICE = f"alice:{PASSWORD}"
ROOT = "root:the word that opens every door"
DATA = b"what only alice may read, and what nobody else has ever written"


@pytest.fixture
def cloud() -> Iterator[Paper]:
    with paper(**{"super-digest": digest(ROOT)}) as made:
        yield made


# ---- the gate ------------------------------------------------------------------------------------


def forms(value: bytes) -> list[bytes]:
    """A value as it may stand in a message or an item; base64 at each offset, without its ends."""
    found = [value, value.hex().encode(), value.hex().upper().encode()]
    for encode in (b64encode, urlsafe_b64encode):
        for skipped in range(3):
            text = encode(b"\0" * skipped + value)
            found.append(text[4 if skipped else 0 : len(text) // 4 * 4 - 4])
    return found


def where(value: bytes, exposed: dict[str, list[bytes]]) -> set[str]:
    """Where a value can be read."""
    wanted = forms(value)
    return {
        place for place, bodies in exposed.items() for body in bodies if any(form in body for form in wanted)
    }


def exposed(cloud: Paper) -> dict[str, list[bytes]]:
    """All that went where other clients' rights reach: on one of the clouds at least, and at worst.

    Of the checkpoint's table clients read one partition; of the settings and heartbeat's none.
    """
    found = {"worker queue": list(cloud.sent), "channel": [message for _, message in cloud.mail]}
    for short, table in cloud.tables.items():
        if short not in ("settings", "heartbeat"):
            found[short] = [
                body
                for partition, _, body in table.versions
                if short != "checkpoint" or partition == "checkpoint"
            ]
    return found


def a_life(cloud: Paper) -> list[FaaSKeeperClient]:
    """Sessions with credentials, ACLs, data, watches, a refusal and a resumption."""
    alice, bob = cloud.client(), cloud.client()
    alice.start()
    bob.start()
    alice.add_auth("digest", ALICE)
    alice.create("/private", DATA, acl=[(31, "auth", "")])
    told = threading.Event()
    alice.get_data("/private", lambda event: told.set())
    other = cloud.client()
    other.start()
    other.add_auth("digest", ALICE)
    other.set_data("/private", DATA[::-1] * 400)  # in a blob
    assert told.wait(PATIENCE_S)
    with pytest.raises(NoAuthException):
        bob.set_data("/private", b"bob was here")
    with pytest.raises(NoAuthException):
        bob.get_data("/private")
    bob.add_auth("digest", "bob:guesses")
    ticket = bob.ticket
    again = cloud.client()
    again.start(resume=ticket)
    again.create("/open", b"")
    return [alice, bob, other, again]


def secrets(clients: list[FaaSKeeperClient]) -> list[bytes]:
    return [client.ticket.secret for client in clients if client.ticket]


def test_no_secret_credential_or_data_of_a_session_can_be_read_where_other_clients_rights_reach(
    cloud: Paper,
) -> None:
    clients = a_life(cloud)
    found = exposed(cloud)
    some = secrets(clients)
    assert len(set(some)) == 3
    for client in clients:
        client.stop()
    for secret in some:
        assert where(secret, found) == set()
    for text in (PASSWORD, "guesses", ROOT, digest(ROOT).split(":")[1]):
        assert where(text.encode(), found) == set()
    for private in (
        row["keys"] for row in cloud.table("settings").partitions["deployment"].values() if "keys" in row
    ):
        assert isinstance(private, bytes)
        for at in range(0, len(private), 32):
            assert where(private[at : at + 32], found) == set()
    # Clients read user storage and the log themselves (decision 0023), and nothing else shows data.
    for data in (DATA, DATA[::-1] * 2):
        assert where(data, found) <= {"records", "log"}
    assert len(found["worker queue"]) >= 8
    assert len(found["channel"]) >= 8


def test_without_envelopes_that_test_would_see_passwords_data_and_secrets(
    cloud: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SealedQueue, "send", lambda self, group, identity, body: cloud.send(group, "", body))
    clients = a_life(cloud)
    found = exposed(cloud)
    some = secrets(clients)
    for client in clients:
        client.stop()
    assert where(PASSWORD.encode(), found) == {"worker queue"}
    assert where(some[0], found) == {"worker queue"}
    assert "worker queue" in where(DATA, found)


# ---- a hostile client ----------------------------------------------------------------------------


class Hostile:
    """A client that sees all envelopes, and sends what it likes."""

    def __init__(self, cloud: Paper) -> None:
        self.cloud = cloud
        self.heard: list[bytes] = []
        self.listener = SealedClientChannel(cloud).listen(self.heard.append)

    def overheard(self) -> list[bytes]:
        """What it can make of the mail that it sees, with its own key."""
        for _, message in list(self.cloud.mail):
            self.cloud.deliver(bare(self.listener.address), message)
        return self.heard

    def send(self, body: bytes) -> None:
        self.cloud.worker.send("", "", body)


def sessions(cloud: Paper) -> set[int]:
    """The sessions that were opened: their leases are granted by the writer."""
    leases = cloud.table("lease").versions
    return {int(key) for partition, key, _ in leases if partition == "lease"}


def log_end(cloud: Paper) -> int:
    return max(int(key) for partition, key, _ in cloud.table("log").versions if partition == "log")


def test_who_sends_copied_envelopes_again_opens_no_session_and_reads_no_answer(cloud: Paper) -> None:
    clients = a_life(cloud)
    before, mail, end = sessions(cloud), len(cloud.mail), log_end(cloud)
    hostile = Hostile(cloud)
    for body in list(cloud.sent):
        hostile.send(body)
    cloud.settle()
    assert sessions(cloud) == before
    assert log_end(cloud) == end  # nothing was decided anew
    answered = {address for address, _ in cloud.mail[mail:]}
    assert answered  # the openings were, once more
    assert bare(hostile.listener.address) not in answered
    assert hostile.overheard() == []
    for client in clients:
        client.stop()


def test_a_copied_opening_of_a_forgotten_session_opens_one_that_only_its_maker_can_use(cloud: Paper) -> None:
    victim = cloud.client(heartbeat=False)
    victim.start()
    opening, first = cloud.sent[0], victim.ticket
    victim.stop()
    cloud.now += 25 * 3_600_000
    with cloud.client() as other:  # so that entries follow the closing, a day later
        other.create("/a")
        cloud.settle()
        hostile = Hostile(cloud)
        before, mail = sessions(cloud), len(cloud.mail)
        for body in list(cloud.sent[:3]):
            hostile.send(body)
        cloud.settle()
        made = sessions(cloud) - before
        assert len(made) == 1
        assert opening in cloud.sent[:3]
        assert {address for address, _ in cloud.mail[mail:]} <= {
            bare(address) for address, _ in cloud.mail[:mail]
        }
        assert hostile.overheard() == []
        # The victim's earlier requests name another session, and so mean nothing in this one.
        assert first.session not in made
        assert [each.path for each in other.get_children("/")] == ["/a", "/zookeeper"]


def test_a_changed_envelope_is_dropped(cloud: Paper, caplog: pytest.LogCaptureFixture) -> None:
    victim = cloud.client()
    victim.start()
    victim.create("/a", DATA)
    before, end = sessions(cloud), log_end(cloud)
    hostile = Hostile(cloud)
    for body in cloud.sent[:2]:
        header = envelopes.header_of(body)
        assert header is not None
        for at in (*range(header.size), header.size + 5, header.size + 40, len(body) - 1):
            hostile.send(body[:at] + bytes((body[at] ^ 1,)) + body[at + 1 :])
        for end_ in (0, 4, 9, header.size - 1, header.size, header.size + 32, len(body) - 1):
            hostile.send(body[:end_])
        hostile.send(body + b"\0")
    cloud.settle()
    assert sessions(cloud) == before
    assert log_end(cloud) == end
    assert "dropped a message" in caplog.text
    assert DATA.decode() not in caplog.text
    victim.stop()


def test_an_address_with_a_key_that_is_none_concerns_only_its_client(cloud: Paper) -> None:
    channel = SealedChannel(PaperRoutes(cloud))
    for key in (
        "",
        "x",
        "A" * 43,
        "A" * 44,
        "é" * 43,
        "=" * 43,
        "#" * 50,
        urlsafe_b64encode(b"1" * 32).decode(),
    ):
        assert channel.deliver(f"mem:1#{key}", b"answer") in (False,) or key.startswith("MTEx")
    assert [address for address, _ in cloud.mail] == ["mem:1"]


class PaperRoutes:
    """The paper's channel, with nothing to close."""

    def __init__(self, cloud: Paper) -> None:
        self.deliver = lambda address, message: cloud.deliver(address, message) or True

    def close(self) -> None:
        pass


# ---- keys ----------------------------------------------------------------------------------------


class Keys:
    """Both tables, and what a client and a function have of them."""

    def __init__(self) -> None:
        self.settings, self.public = MemoryTable(), MemoryTable()
        self.now = 0
        self.sent: list[bytes] = []
        self.client = SealedQueue(self, PublishedKey(self.public, "paper", lambda: self.now).get)
        self.function = PrivateKeys(self.settings, lambda: self.now)

    ordered = True
    max_message_bytes = 1000

    def send(self, group: str, identity: str, body: bytes) -> None:
        self.sent.append(body)

    def renew(self, **more: Any) -> bool:
        return renew(self.settings, self.public, self.now, **more)

    def through(self) -> bytes:
        """What becomes of a message on its way."""
        self.client.send("writer", "7 1", b"message")
        return opened(self.sent[-1], self.function)


def test_the_first_run_makes_a_pair_and_later_ones_none_until_it_is_due() -> None:
    keys = Keys()
    assert keys.renew()
    assert not keys.renew()
    assert keys.through() == b"message"
    keys.now += seals.EVERY_MS + 1
    assert keys.renew()
    assert not keys.renew()
    assert keys.through() == b"message"
    assert keys.renew(at_once=True)
    header = envelopes.header_of(keys.sent[-1])
    assert header is not None
    assert (header.generation, header.label) == (2, "7 1")


def test_messages_of_earlier_pairs_open_until_so_many_have_followed() -> None:
    keys = Keys()
    keys.renew()
    keys.through()
    first = keys.sent[-1]
    for _ in range(KEPT - 1):
        keys.renew(at_once=True)
        keys.now += LOOK_AGAIN_MS
        assert opened(first, PrivateKeys(keys.settings, lambda: 0)) == b"message"
    assert keys.through() == b"message"  # this client still uses the first
    keys.renew(at_once=True)
    assert opened(first, PrivateKeys(keys.settings, lambda: 0)) == first
    keys.now += REFRESH_MS + 1
    assert keys.through() == b"message"
    assert keys.sent[-1][:9] != first[:9]


def test_a_run_that_dies_between_its_two_puts_is_finished_by_the_next() -> None:
    keys = Keys()
    keys.renew()
    put = keys.public.put

    def die(*args: Any) -> None:
        raise Unavailable("dies")

    keys.public.put = die  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        keys.renew(at_once=True)
    keys.public.put = put  # type: ignore[method-assign]
    assert keys.through() == b"message"
    assert not keys.renew()
    keys.now += REFRESH_MS + 1
    assert keys.through() == b"message"
    assert envelopes.header_of(keys.sent[-1]) == (2, "7 1", 12)


def test_of_runs_at_the_same_time_one_makes_the_pair_and_it_is_published() -> None:
    keys = Keys()
    get, raced = keys.settings.get, []

    def race(partition: str, key: str) -> Any:
        found = get(partition, key)
        if not raced:
            raced.append(True)
            keys.renew()
        return found

    keys.settings.get = race  # type: ignore[method-assign]
    assert not keys.renew()
    assert keys.through() == b"message"


def test_settings_that_were_restored_get_a_pair_above_what_was_published() -> None:
    keys = Keys()
    keys.renew()
    old = keys.settings.get("deployment", "seals")
    assert old is not None
    for _ in range(3):
        keys.renew(at_once=True)
    keys.settings.put("deployment", "seals", old)
    assert keys.renew()
    assert not keys.renew()
    assert keys.through() == b"message"
    assert envelopes.header_of(keys.sent[-1]) == (5, "7 1", 12)


def test_a_function_reads_the_keys_for_an_unknown_number_only_now_and_then() -> None:
    keys = Keys()
    keys.renew()
    reads = []
    get = keys.settings.get
    keys.settings.get = lambda *key: reads.append(key) or get(*key)  # type: ignore[method-assign,func-returns-value]
    strange = b"FKE1" + (99).to_bytes(4, "big") + b"\0" + bytes(60)
    for _ in range(50):
        assert opened(strange, keys.function) == strange
    assert len(reads) == 1
    keys.now += LOOK_AGAIN_MS
    assert opened(strange, keys.function) == strange
    assert len(reads) == 2


def test_a_client_goes_on_with_its_key_while_it_cannot_read_the_next() -> None:
    keys = Keys()
    keys.renew()
    assert keys.through() == b"message"
    get = keys.public.get

    def fail(*key: str) -> Any:
        raise Unavailable("no answer")

    keys.public.get = fail  # type: ignore[method-assign]
    keys.now += REFRESH_MS + 1
    assert keys.through() == b"message"
    keys.public.get = get  # type: ignore[method-assign]


# ---- other releases ------------------------------------------------------------------------------


def test_a_client_does_not_connect_to_functions_that_cannot_open_what_it_seals(cloud: Paper) -> None:
    cloud.table("checkpoint").delete("checkpoint", "seal")
    client = cloud.client()
    with pytest.raises(ProviderException, match="Run 'fk deploy functions'"):
        client.start()
    assert cloud.sent == []


def test_a_client_of_an_earlier_release_is_served_as_before(cloud: Paper) -> None:
    heard: list[bytes] = []
    listener = cloud.listen(heard.append)
    secret = b"s" * trust.KEY_BYTES
    opening = Message(0, 0, 0, listener.address, (Request(0, Open("nonce", secret, 10_000)),))
    cloud.send("0 0", "", trust.sign(secret, codec.message(opening)))
    cloud.settle()
    (answer,) = heard
    trust.verify(secret, answer)
    session = codec.to_delivery(trust.body(answer)).session
    create = Message(session, 0, 0, listener.address, (Request(1, Create("/a", inline(b""))),))
    cloud.send("", "", trust.sign(secret, codec.message(create)))
    cloud.settle()
    told: Any = codec.to_delivery(trust.body(heard[-1]))
    assert told.outcomes[0][1].code is Code.OK


def test_a_writer_in_the_client_s_process_seals_what_it_passes_on_to_the_functions() -> None:
    with paper(**{"worker-queue": "direct"}) as cloud, cloud.client() as client:
        client.add_auth("digest", ALICE)
        client.create("/private", DATA, acl=[(31, "auth", "")])
        found = exposed(cloud)
        assert client.ticket is not None
        assert where(client.ticket.secret, found) == set()
        assert where(PASSWORD.encode(), found) == set()
        assert len(cloud.sent) == 1  # the opening, which goes through the functions' queue
        header = envelopes.header_of(cloud.sent[0])
        assert header is not None


# ---- drivers -------------------------------------------------------------------------------------


class TestSealedChannel(ChannelSuite):
    @pytest.fixture
    def channel(self) -> Iterator[SealedChannel]:
        channel = SealedChannel(TcpChannel())
        yield channel
        channel.close()

    @pytest.fixture
    def client_channel(self) -> SealedClientChannel:
        return SealedClientChannel(TcpClientChannel())


def test_a_listener_drops_what_is_not_sealed_for_it() -> None:
    heard: list[bytes] = []
    with paper() as cloud:
        listener = SealedClientChannel(cloud).listen(heard.append)
        other = SealedClientChannel(cloud).listen(heard.append)
        cloud.deliver(bare(listener.address), b"in clear")
        SealedChannel(PaperRoutes(cloud)).deliver(other.address, b"for another")
        assert heard.pop() == b"for another"
        cloud.deliver(bare(listener.address), cloud.mail[-1][1])
        assert heard == []


def test_an_envelope_fits_where_its_queue_takes_what_it_says() -> None:
    keys = Keys()
    keys.renew()
    keys.client.send("writer", "x" * 300, b"m" * keys.client.max_message_bytes)
    assert len(keys.sent[-1]) == keys.max_message_bytes
    assert opened(keys.sent[-1], keys.function) == b"m" * keys.client.max_message_bytes


@pytest.mark.parametrize("body", [b"", b"FKE1", b"FKE1\0\0\0\1", b"FKE1\0\0\0\1\xff", b"FKE1\0\0\0\1\0"])
def test_what_only_begins_like_an_envelope_is_left_as_it_is(body: bytes) -> None:
    keys = Keys()
    keys.renew()
    assert opened(body, keys.function) == body
