"""Where a cluster's address leads: judged on what is connected to, at every new connection, however it is written."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
from collections.abc import Iterator

import pytest

from clusters.kube.client import KubeClient
from clusters.kube.credentials import Credentials, KubeconfigError
from clusters.kube.errors import Fault, Unreachable
from tenants.outside import judge_cluster
from tenants.outside_rules import Refused
from tests.fakes.kube import tls

NEVER = [
    "169.254.169.254", "fe80::1", "fd00:ec2::254", "100.100.100.200", "224.0.0.1", "ff02::1", "0.0.0.0", "::",
    "255.255.255.255", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::", "::a00:1",
]  # fmt: skip
#: This machine, and a cloud's metadata, as only a parser would write them.
SPELLINGS = [
    "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "017700000001", "127.0.1",
    "[::1]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::127.0.0.1]",
    "[2002:7f00:1::]", "localhost", "localhost.", "LOCALHOST", "0", "0.0.0.0", "[::]",
    "169.254.169.254", "2852039166", "0xa9fea9fe", "0xa9.0xfe.0xa9.0xfe", "0251.0376.0251.0376", "169.254.43518",
    "[::ffff:169.254.169.254]", "[fe80::1%25lo]", "[fd00:ec2::254]", "%31%32%37.0.0.1", "127.0.0.1%00.example.org",
]  # fmt: skip


@contextlib.contextmanager
def listening() -> Iterator[tuple[int, list[str]]]:
    """Listen on IPv4 and IPv6 loopback; gives the port and who came."""
    came: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as four, contextlib.ExitStack() as stack:
        port = four.getsockname()[1]
        listeners = [four]
        with contextlib.suppress(OSError):
            listeners.append(stack.enter_context(socket.create_server(("::1", port), family=socket.AF_INET6)))

        def serve(listener: socket.socket) -> None:
            while True:
                try:
                    connection, peer = listener.accept()
                except OSError:
                    return
                came.append(peer[0])
                connection.close()

        threads = [threading.Thread(target=serve, args=(each,)) for each in listeners]
        for thread in threads:
            thread.start()
        try:
            yield port, came
        finally:
            for listener in listeners:
                with contextlib.suppress(OSError):
                    listener.shutdown(socket.SHUT_RDWR)
                listener.close()
            for thread in threads:
                thread.join(10)


def asked(server: str, **changes) -> Unreachable:
    """Ask a cluster for its version, which fails."""
    credentials = Credentials(server=server, ca_data=tls.authority().pem, token="secret")
    with (
        contextlib.closing(KubeClient(credentials, **changes)) as client,
        pytest.raises(Unreachable) as caught,
    ):
        client.version()
    return caught.value


@pytest.mark.parametrize("address", NEVER)
def test_some_addresses_are_of_no_cluster_whatever_operators_allow(settings, address):
    settings.CLUSTER_ALLOWED_NETWORKS = [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")]
    with pytest.raises(Refused, match="nothing is sent there"):
        judge_cluster(ipaddress.ip_address(address), 6443)


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "192.168.7.7", "100.64.0.1", "fd12::1", "8.8.8.8", "2606:4700::1"]
)
def test_clusters_stand_in_private_networks_unless_operators_name_others(settings, address):
    judge_cluster(ipaddress.ip_address(address), 6443)
    settings.CLUSTER_ALLOWED_NETWORKS = [ipaddress.ip_network("10.99.0.0/16")]
    with pytest.raises(Refused, match="CLUSTER_ALLOWED_NETWORKS"):
        judge_cluster(ipaddress.ip_address(address), 6443)
    judge_cluster(ipaddress.ip_address("10.99.1.1"), 6443)


def test_this_machine_is_a_cluster_in_development_only(settings):
    judge_cluster(ipaddress.ip_address("127.0.0.1"), 6443)
    settings.OUTSIDE_ALLOW_LOOPBACK = False
    for allowed in ([], [ipaddress.ip_network("127.0.0.0/8")]):
        settings.CLUSTER_ALLOWED_NETWORKS = allowed
        with pytest.raises(Refused, match="this machine itself"):
            judge_cluster(ipaddress.ip_address("127.0.0.1"), 6443)


@pytest.mark.parametrize("which", ["database", "broker", "vault"])
def test_our_own_services_are_no_clusters(settings, which):
    settings.DATABASE_OWNER = {"HOST": "10.0.0.5", "PORT": "5432"}
    settings.CELERY_BROKER_URL = "amqps://me:word@10.0.0.6/berth"
    settings.SEALING_VAULT = {"address": "https://10.0.0.7:8200"}
    host, port = {"database": ("10.0.0.5", 5432), "broker": ("10.0.0.6", 5671), "vault": ("10.0.0.7", 8200)}[
        which
    ]
    with pytest.raises(Refused, match="Berth itself"):
        judge_cluster(ipaddress.ip_address(host), port)
    judge_cluster(ipaddress.ip_address(host), 6443)


@pytest.mark.parametrize("host", SPELLINGS)
def test_however_an_address_is_written_nobody_is_connected_to(settings, host):
    settings.OUTSIDE_ALLOW_LOOPBACK = False
    with listening() as (port, came):
        error = asked(f"https://{host}:{port}")
    assert error.fault in (Fault.ADDRESS, Fault.DNS, Fault.RESET), error  # the last: it cannot be read
    assert came == []
    assert "secret" not in str(error)


@pytest.mark.parametrize(
    "server",
    [
        "https://good.example@127.0.0.1:6443", "https://@127.0.0.1", "https://good.example\\@127.0.0.1",
        "https://127.0.0.1\\.good.example", "https://１２７.0.0.1", "https://ⓛocalhost", "https://127.0.0.1 .example",
        "https://127.0.0.1\t", "https://good.example\r\nHost: x", "https://good.example?x", "https://good.example#x",
        "http://10.0.0.1", "https:///10.0.0.1", "https://[::1", "file:///etc/passwd",
    ],
)  # fmt: skip
def test_an_address_that_could_be_read_in_two_ways_is_refused_as_it_is_typed(server):
    with pytest.raises(KubeconfigError):
        Credentials(server=server, token="secret")


def test_the_connection_goes_to_the_address_that_was_judged(fake_kube, monkeypatch):
    """A name is resolved once for each connection, and its certificate is still asked for by name."""
    port = fake_kube.admin.server.rpartition(":")[2]
    answers, real = [["127.0.0.1"]], socket.getaddrinfo

    def resolve(host, at, *args, **options):
        if host != "localhost":
            return real(host, at, *args, **options)
        found = answers.pop(0) if answers else ["169.254.169.254"]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, at)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    credentials = Credentials(
        server=f"https://localhost:{port}", ca_data=fake_kube.admin.ca_data, token=fake_kube.token("berth")
    )
    with contextlib.closing(KubeClient(credentials)) as client:
        assert client.whoami() == "berth"
        assert client.whoami() == "berth", "over the connection that stands"
        client._transport._pool.clear()  # the connection is lost; the name now leads elsewhere
        with pytest.raises(Unreachable) as caught:
            client.whoami()
    assert caught.value.fault is Fault.ADDRESS
    assert "169.254.169.254 is link-local" in str(caught.value)


def test_one_bad_address_among_good_ones_is_enough(monkeypatch):
    with listening() as (port, came):
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in ("127.0.0.1", "169.254.169.254")
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        assert asked(f"https://two.example:{port}").fault is Fault.ADDRESS
    assert came == []


def test_the_next_address_is_tried_where_nobody_listens(fake_kube, monkeypatch):
    port, real = fake_kube.admin.server.rpartition(":")[2], socket.getaddrinfo

    def resolve(host, at, *args, **options):
        if host != "localhost":
            return real(host, at, *args, **options)
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, at)) for each in ("127.0.0.2", "127.0.0.1")
        ]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    credentials = Credentials(
        server=f"https://localhost:{port}", ca_data=fake_kube.admin.ca_data, token=fake_kube.token("berth")
    )
    with contextlib.closing(KubeClient(credentials)) as client:
        assert client.whoami() == "berth"


def test_a_proxy_of_the_installation_is_not_led_to_such_an_address_either(settings, monkeypatch):
    settings.OUTSIDE_ALLOW_LOOPBACK = False
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with listening() as (port, came):
        for name in ("HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        assert asked("https://169.254.169.254").fault is Fault.ADDRESS
        assert came == []
        assert asked("https://known-to-the-proxy-alone.invalid").fault in (Fault.PROXY, Fault.RESET)
    assert came


def test_registration_tells_why_and_keeps_nothing(settings, db):
    from clusters.inventory.registration import connection_check

    settings.OUTSIDE_ALLOW_LOOPBACK = False
    credentials = Credentials(server="https://metadata.google.internal.127.0.0.1.example", token="secret")
    report = connection_check(credentials=credentials, namespaces=[])
    assert report.failures[0].code == "dns"
    report = connection_check(
        credentials=Credentials(server="https://0x7f.1:6443", token="secret"), namespaces=[]
    )
    assert report.failures[0].code == "address"
    assert "127.0.0.1 is this machine itself" in report.failures[0].message
