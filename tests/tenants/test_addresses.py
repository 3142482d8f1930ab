"""The address of whoever asks: as the connection says, or as trusted proxies say, never as the client says."""

from __future__ import annotations

import ipaddress

import pytest
from django.test import RequestFactory

from tenants.addresses import client_address

PROXIES = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("198.51.100.7", "", "198.51.100.7"),
        ("198.51.100.7", "203.0.113.9", "198.51.100.7"),  # no proxy of ours: what it claims is not believed
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "1.2.3.4, 203.0.113.9", "203.0.113.9"),  # the first was written by the client
        ("10.0.0.1", "203.0.113.9, 10.2.0.1", "203.0.113.9"),
        ("fd00::1", "2001:db8::7", "2001:db8::7"),
        ("10.0.0.1", "::ffff:203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("", "203.0.113.9", ""),
    ],
)
def test_only_trusted_proxies_are_believed(settings, peer, forwarded, expected):
    settings.TRUSTED_PROXIES = PROXIES
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    assert client_address(RequestFactory().get("/", REMOTE_ADDR=peer, headers=headers)) == expected
