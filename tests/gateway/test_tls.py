"""TLS: an encrypted port, and certificates as identities."""

from __future__ import annotations

import ssl
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from faaskeeper.core.acl import identities, vouch
from tests.gateway import raw
from tests.gateway.raw import Closed, Raw, acls, number, string
from tests.gateway.servers import Server


class Tls:
    """A server with a certificate, and authorities of clients."""

    def __init__(self, directory: Path) -> None:
        self.authority, self.stranger = trustme.CA(), trustme.CA()
        issued = self.authority.issue_cert("127.0.0.1", "localhost")
        certificate, key, ca = (directory / name for name in ("cert.pem", "key.pem", "ca.pem"))
        certificate.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
        key.write_bytes(issued.private_key_pem.bytes())
        self.authority.cert_pem.write_to_path(str(ca))
        options = ("--tls-cert", str(certificate), "--tls-key", str(key), "--tls-ca", str(ca))
        self.server = Server(directory / "server", *options)
        self.port = self.server.port

    def wrap(self, name: str = "", authority: Any = None) -> Callable[[Any], Any]:
        """What makes a connection one by TLS, with a certificate of that name."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        if name:
            (authority or self.authority).issue_cert("localhost", common_name=name).configure_cert(context)
        return lambda plain: context.wrap_socket(plain, server_hostname="127.0.0.1")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tls]:
    made = Tls(tmp_path_factory.mktemp("tls"))
    yield made
    assert made.server.stop() == 0


def test_a_client_speaks_through_tls(tls: Tls) -> None:
    client = Raw(tls.port, wrap=tls.wrap())
    client.create("/plain", b"x" * 100_000)
    assert client.ask(raw.GET, string("/plain") + b"\0")[1].buffer() == b"x" * 100_000
    assert [each for each in who(client) if each[0] == "x509"] == []


def who(client: Raw) -> list[tuple[str, str]]:
    record = client.ask(raw.WHO_AM_I)[1]
    return [(record.string(), record.string()) for _ in range(record.take("i"))]


def test_a_certificate_is_an_identity_that_acls_know(tls: Tls) -> None:
    mine = Raw(tls.port, wrap=tls.wrap("me"))
    ((_, name),) = (each for each in who(mine) if each[0] == "x509")
    assert name.startswith("CN=me,")
    body = string("/own") + string(b"secret") + acls([[31, "auth", ""]]) + number(0)
    assert mine.ask(raw.CREATE2, body)[0] == 0
    error, record = mine.ask(raw.GET_ACL, string("/own"))
    assert (error, record.take("i")) == (0, 1)
    assert (record.take("i"), record.string(), record.string()) == (31, "x509", name)
    same, other = Raw(tls.port, wrap=tls.wrap("me")), Raw(tls.port, wrap=tls.wrap("you"))
    for client, allowed in ((mine, True), (other, False), (Raw(tls.port, wrap=tls.wrap()), False)):
        expected = 0 if allowed else -102
        assert client.ask(raw.GET, string("/own") + b"\0")[0] == expected
        assert client.ask(raw.SET, string("/own") + string(b"x") + number(-1))[0] == expected
    # trustme writes a fresh O and OU for each certificate: only the whole subject is the same person.
    assert who(same) != who(mine)


def test_a_name_is_believed_from_holders_of_the_deployment_s_key_alone() -> None:
    key, other = b"k" * 32, b"o" * 32
    assert identities([vouch(key, "CN=a")], "", key) == (("x509", "CN=a"),)
    assert identities([vouch(other, "CN=a")], "", key) == ()
    assert identities([("x509", "CN=a")], "", key) == ()
    assert identities([("x509", ":CN=a")], "", key) == ()
    assert identities([vouch(key, "CN=a")]) == ()


def test_a_certificate_of_a_stranger_s_authority_is_refused(tls: Tls) -> None:
    with pytest.raises((Closed, ssl.SSLError, ConnectionError)):
        Raw(tls.port, wrap=tls.wrap("me", tls.stranger))
    Raw(tls.port, wrap=tls.wrap("me")).ping()


def test_plain_text_on_an_encrypted_port_is_refused(tls: Tls) -> None:
    plain = Raw(tls.port, connect=False)
    plain.frame(struct.pack(">iqiq", 0, 0, 10_000, 0) + string(bytes(16)) + b"\0")
    with pytest.raises(Closed):
        plain.exactly(1000)
    Raw(tls.port, wrap=tls.wrap()).ping()


def test_files_that_are_no_certificates_are_named(tmp_path: Path) -> None:
    for name in ("a.pem", "b.pem"):
        (tmp_path / name).write_text("nothing")
    with pytest.raises(RuntimeError, match=r"TLS with .*a\.pem, .*b\.pem"):
        Server(tmp_path, "--tls-cert", str(tmp_path / "a.pem"), "--tls-key", str(tmp_path / "b.pem"))
    Server.made.clear()
    with pytest.raises(RuntimeError, match="must be given together"):
        Server(tmp_path, "--tls-cert", str(tmp_path / "a.pem"))
    Server.made.clear()
