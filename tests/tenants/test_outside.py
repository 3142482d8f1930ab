"""Where tenants may lead Berth: judged by address, at the moment of connecting, and nothing follows a redirect."""

from __future__ import annotations

import ipaddress
import socket
import threading

import pytest
from django.core.exceptions import ImproperlyConfigured

from portal.settings import env
from tenants.outside import NoAnswer, Refused, judge, post, resolve
from tests.tenants.receiver import receiving

ALWAYS = [
    "169.254.169.254", "169.254.0.1", "fe80::1", "fd00:ec2::254", "100.100.100.200", "192.0.0.192", "168.63.129.16",
    "224.0.0.1", "ff02::1", "0.0.0.0", "::", "255.255.255.255", "240.0.0.1",
    "::ffff:8.8.8.8", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1",
    "2001:0:1234::1", "::7f00:1", "64:ff9b:1::a00:1",
]  # fmt: skip
PRIVATE = [
    "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "fc00::1", "fd12:3456::1", "192.0.2.1",
    "198.18.0.1", "203.0.113.9", "fec0::1",
]  # fmt: skip
PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111"]


def refused(address: str, **options) -> str:
    with pytest.raises(Refused) as caught:
        judge(ipaddress.ip_address(address), **{"port": 443} | options)
    return str(caught.value)


@pytest.mark.parametrize("address", ALWAYS)
def test_some_addresses_are_never_spoken_to_whatever_operators_allow(settings, address):
    settings.OUTSIDE_ALLOWED_NETWORKS = [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")]
    assert "nothing is sent there" in refused(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_networks_are_open_only_where_operators_name_them(settings, address):
    assert "OUTSIDE_ALLOWED_NETWORKS" in refused(address)
    settings.OUTSIDE_ALLOWED_NETWORKS = [ipaddress.ip_network(address)]
    judge(ipaddress.ip_address(address), port=443)
    judge(ipaddress.ip_address(address), port=80, encrypted=False)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_spoken_to_encrypted(address):
    judge(ipaddress.ip_address(address), port=443)
    assert "use https" in refused(address, port=80, encrypted=False)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1"])
def test_loopback_is_for_development(settings, address):
    judge(ipaddress.ip_address(address), port=9, encrypted=False)
    settings.OUTSIDE_ALLOW_LOOPBACK = False
    assert "private network" in refused(address)


@pytest.mark.parametrize("which", ["database", "broker"])
def test_our_own_database_and_broker_are_refused_even_where_loopback_is_open(settings, which):
    if which == "broker":
        settings.CELERY_BROKER_URL = "redis://user:word@127.0.0.1:6390/0"
        port = 6390
    else:
        settings.DATABASE_OWNER = {"HOST": "127.0.0.1", "PORT": "5999"}
        port = 5999
    assert "Berth itself" in refused("127.0.0.1", port=port)
    judge(ipaddress.ip_address("127.0.0.1"), port=port + 1)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("ftp://example.org/x", "begins with https://"), ("https://", "names a host"), ("hook", "begins with https://"),
        ("https://me:secret@8.8.8.8/", "user name and password"), ("https://8.8.8.8:99999/", "no URL"),
        ("https://8.8.8.8/a b", "without blanks"), ("https://8.8.8.8/a\r\nX: y", "without blanks"),
        ("https://[::1", "no URL"), ("http://10.1.1.1/", "private network"), ("https://0x7f.1/", "OWN"),
        ("https://nowhere.invalid/", "is not known"), ("https://2130706433/", "OWN"),
    ],
)  # fmt: skip
def test_a_url_that_hides_something_is_refused(settings, url, told):
    settings.OUTSIDE_ALLOW_LOOPBACK = False
    with pytest.raises(Refused) as caught:
        resolve(url)
    assert (told if told != "OWN" else "127.0.0.1") in str(caught.value)


@pytest.mark.parametrize(
    "host",
    [
        "127.1", "017700000001", "0x7f000001", "0177.0.0.1", "127.0.1", "0", "[::1]", "[::ffff:7f00:1]",
        "[::127.0.0.1]", "[64:ff9b::127.0.0.1]", "[2002:7f00:1::]", "localhost", "localhost.", "LOCALHOST",
        "2852039166", "0xa9fea9fe",
        "0xa9.0xfe.0xa9.0xfe", "0251.0376.0251.0376", "169.254.43518", "[::ffff:a9fe:a9fe]", "[fe80::1%25lo]",
        "%31%32%37.0.0.1", "127.0.0.1%00.example.org", "good.example\\@127.0.0.1", "@127.0.0.1", "me@127.0.0.1",
        "１２７.0.0.1", "ⓛocalhost", "127.0.0.1\\.good.example", "127。0。0。1", "user:pass@[::1]",
    ],
)  # fmt: skip
def test_however_an_address_is_written_it_is_not_sent_to(settings, host):
    settings.OUTSIDE_ALLOW_LOOPBACK = False
    with pytest.raises(Refused):
        resolve(f"https://{host}:8443/hook")


def test_one_bad_address_among_good_ones_is_enough(monkeypatch):
    found = [(2, 1, 6, "", (address, 443)) for address in ("8.8.8.8", "169.254.169.254")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(Refused, match=r"169\.254\.169\.254"):
        resolve("https://hooks.example.org/")


def test_the_connection_goes_to_the_address_that_was_judged(monkeypatch):
    with receiving() as receiver:
        port = int(receiver.url.rpartition(":")[2].partition("/")[0])
        first = [(2, 1, 6, "", ("127.0.0.1", port))]
        real = socket.getaddrinfo
        monkeypatch.setattr(
            socket,
            "getaddrinfo",
            lambda host, *a, **k: first if host == "rebinds.example" else real(host, *a, **k),
        )
        target = resolve(f"http://rebinds.example:{port}/hook")
        first[:] = [(2, 1, 6, "", ("169.254.169.254", port))]
        answer = post(target, b"{}", {})
    assert (answer.status, answer.text) == (200, "thanks")
    assert receiver.requests[0][0]["host"] == f"rebinds.example:{port}"


@pytest.mark.parametrize("to", ["here", "http://169.254.169.254/latest/meta-data/"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_answer_and_is_not_followed(status, to):
    with receiving() as receiver:
        receiver.answers = [(status, {"Location": receiver.url if to == "here" else to})]
        assert post(resolve(receiver.url), b"{}", {}).status == status
    assert len(receiver.requests) == 1


def test_silence_and_a_slow_drip_both_end():
    with receiving() as receiver:
        receiver.hold = threading.Event()
        with pytest.raises(NoAnswer, match="no answer within"):
            post(resolve(receiver.url), b"{}", {}, read_s=0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = threading.Event()

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                while not done.wait(0.05):
                    try:
                        connection.sendall(b"H")
                    except OSError:
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            with pytest.raises(NoAnswer):
                post(resolve(f"http://127.0.0.1:{server.getsockname()[1]}/"), b"", {}, read_s=5, whole_s=0.5)
        finally:
            done.set()
            thread.join()


def test_a_port_where_nobody_listens_and_a_certificate_nobody_trusts_are_told():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(NoAnswer, match="refused"):
        post(resolve(f"http://127.0.0.1:{port}/"), b"", {})
    with receiving() as receiver, pytest.raises(NoAnswer):
        post(resolve(receiver.url.replace("http://", "https://")), b"", {})


def test_a_network_that_is_none_is_refused_when_settings_are_read(monkeypatch):
    monkeypatch.setenv("OUTSIDE_ALLOWED_NETWORKS", "10.0.0.0/8, 10.1.2.3/8")
    with pytest.raises(ImproperlyConfigured, match="OUTSIDE_ALLOWED_NETWORKS"):
        env.networks("OUTSIDE_ALLOWED_NETWORKS")
