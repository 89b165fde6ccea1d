"""Where functions connect to: addresses within networks, and never those that give something away."""

from __future__ import annotations

import logging
import threading
from ipaddress import ip_network
from typing import Any

import pytest

from faaskeeper.config import ConfigurationException
from faaskeeper.core.errors import Denied
from faaskeeper.exceptions import ProviderException
from faaskeeper.providers.networks import LOOPBACK, PRIVATE, Networks
from faaskeeper.providers.tcp import TcpChannel, TcpClientChannel
from faaskeeper.testing.patience import PATIENCE_S
from tests.paper import PaperService, paper

EVERYTHING = ("0.0.0.0/0", "::/0")


@pytest.mark.parametrize("host", ["10.1.2.3", "172.31.0.1", "192.168.7.7", "100.64.0.1", "fd12:3456::1"])
def test_private_addresses_are_within_the_private_networks(host: str) -> None:
    assert Networks(PRIVATE).refusal(host) == ""


@pytest.mark.parametrize("host", ["8.8.8.8", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are_reached_only_where_a_network_has_them(host: str) -> None:
    assert "in none of the networks 10.0.0.0/8" in Networks(PRIVATE).refusal(host)
    assert "there are none" in Networks(()).refusal(host)
    assert Networks(EVERYTHING).refusal(host) == ""


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",  # metadata of every cloud
        "169.254.170.2",  # credentials of containers on AWS
        "fd00:ec2::254",
        "fd20:ce::254",
        "fe80::1",
        "fe80::1%eth0",
        "224.0.0.1",
        "ff02::1",
        "0.0.0.0",
        "0.1.2.3",
        "::",
        "255.255.255.255",
        "240.0.0.1",
        "::ffff:169.254.169.254",  # the same in IPv6, in four ways
        "2002:a9fe:a9fe::1",
        "64:ff9b::a9fe:a9fe",
        "2001:0:4136:e378:8000:63bf:5601:5601",
        "127.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
    ],
)
def test_some_addresses_are_refused_whatever_the_networks_are(host: str) -> None:
    assert Networks((*EVERYTHING, *PRIVATE)).refusal(host)


@pytest.mark.parametrize(
    "host",
    ["localhost", "metadata.google.internal", "", "2852039166", "0x7f.1", "127.1", "[::1]", "1.2.3.4 "],
)
def test_only_literal_addresses_count(host: str) -> None:
    assert "is not an IP address" in Networks((*EVERYTHING, *LOOPBACK)).refusal(host)


def test_loopback_is_reached_where_a_network_of_its_own_names_it() -> None:
    assert Networks(LOOPBACK).refusal("127.0.0.1") == ""
    assert Networks(("0.0.0.0/0", "127.0.0.1/32")).refusal("127.0.0.1") == ""
    assert Networks(("127.0.0.1/32",)).refusal("127.0.0.2")


@pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0.0/33", "everything", ""])
def test_what_is_no_network_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not a network in CIDR notation"):
        Networks((text,))


def test_a_client_may_listen_at_an_address_of_ipv6() -> None:
    heard = threading.Event()
    try:
        listener = TcpClientChannel("::1").listen(lambda message: heard.set())
    except Denied as error:  # this machine has no IPv6
        assert "cannot listen on ::1" in str(error)
        return
    channel = TcpChannel()
    assert channel.deliver(listener.address, b"message")
    assert heard.wait(PATIENCE_S)
    channel.close()
    listener.close()


TCP = {"client-channel": "tcp"}


@pytest.mark.parametrize(
    ("options", "section", "texts"),
    [
        ({}, {}, ()),
        (TCP, {}, PRIVATE),
        ({}, {"client-networks": ["10.1.0.0/16"]}, ("10.1.0.0/16",)),
        (TCP, {"client-networks": "10.1.0.0/16, fd00::/8"}, ("10.1.0.0/16", " fd00::/8")),
        (TCP, {"client-networks": ""}, PRIVATE),  # as the templates pass on that there are none
        ({"client-channel": "sqs"}, {"client-networks": ["10.1.0.0/16"]}, ("10.1.0.0/16",)),
    ],
)
def test_functions_connect_within_what_is_configured(
    options: dict[str, str], section: dict[str, Any], texts: tuple[str, ...]
) -> None:
    with paper(**options, aws=section) as cloud:
        networks = PaperService(cloud, cloud.config).networks
        assert networks.texts == texts
        for text in texts:
            assert networks.refusal(str(ip_network(text.strip())[1])) == ""


@pytest.mark.parametrize("value", [7, ["10.0.0.0/8", 7], {"a": 1}, ["10.0.0.1/8"], "everywhere"])
def test_networks_that_are_none_are_an_error_that_names_the_key(value: Any) -> None:
    with (
        pytest.raises(ConfigurationException, match=r"the key '?aws\.client-networks'?"),
        paper(aws={"client-networks": value}),
    ):
        pass


@pytest.mark.parametrize(
    ("host", "problem"),
    [
        ("54.1.2.3", "54.1.2.3 is in none of the networks 10.0.0.0/8"),
        ("localhost", "'localhost' is not an IP address"),
        ("169.254.1.1", "169.254.1.1 is link-local"),
    ],
)
def test_a_client_that_functions_would_refuse_does_not_connect(host: str, problem: str) -> None:
    with paper(**TCP, aws={"client-host": host}) as cloud:
        with pytest.raises(ProviderException) as raised:
            cloud.client().start()
        text = str(raised.value)
        assert text.startswith(f"functions do not answer this client by TCP: {problem}")
        assert "aws.client-host" in text
        assert "aws.client-networks" in text
        assert '"client-channel": "sqs"' in text
        assert cloud.sent == []


def test_a_refusal_is_logged_and_nothing_is_sent(caplog: pytest.LogCaptureFixture) -> None:
    heard = threading.Event()
    listener = TcpClientChannel().listen(lambda message: heard.set())
    refusing, channel = TcpChannel(Networks(PRIVATE)), TcpChannel()
    with caplog.at_level(logging.WARNING):
        assert not refusing.deliver(listener.address, b"message")
    assert f"refused to answer a client at {listener.address}" in caplog.text
    assert not heard.is_set()
    assert channel.deliver(listener.address, b"message")
    assert heard.wait(PATIENCE_S)
    for each in (refusing, channel):
        each.close()
    listener.close()
