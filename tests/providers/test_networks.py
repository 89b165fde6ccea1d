"""Where functions connect to: addresses within networks, and never those that give something away."""

from __future__ import annotations

import logging
import threading

import pytest

from faaskeeper.providers.networks import LOOPBACK, PRIVATE, Networks
from faaskeeper.providers.tcp import TcpChannel, TcpClientChannel
from faaskeeper.testing.patience import PATIENCE_S

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
