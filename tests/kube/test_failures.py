"""What the client makes of servers that are away, busy, slow, broken, or something else."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
import time

import pytest

from clusters.kube import kinds
from clusters.kube.client import KubeClient
from clusters.kube.credentials import Credentials
from clusters.kube.errors import (
    Conflict,
    Fault,
    Forbidden,
    Gone,
    Invalid,
    KubeError,
    NotFound,
    ServerTrouble,
    TooManyRequests,
    Unauthorized,
    Unreachable,
    error_of,
)
from tests.fakes.kube import tls
from tests.kube import things

pytestmark = pytest.mark.kubernetes


@pytest.fixture
def client(fake_kube):
    with contextlib.closing(KubeClient(fake_kube.admin, read_timeout_s=0.5)) as client:
        yield client


def test_a_refused_address(client, fake_kube):
    fake_kube.away()
    with pytest.raises(Unreachable) as caught:
        client.whoami()
    assert caught.value.fault is Fault.REFUSED
    fake_kube.back()
    assert client.whoami() == "admin"


def test_a_silent_server_is_given_up_in_time(client, fake_kube):
    fake_kube.hang(resource="configmaps")
    began = time.monotonic()
    with pytest.raises(Unreachable) as caught:
        client.get(kinds.CONFIG_MAP, "words", "default")
    assert caught.value.fault is Fault.SLOW
    assert time.monotonic() - began < 3


def test_a_server_that_takes_connections_and_says_nothing_is_told_from_a_slow_answer():
    """The backlog of a machine takes connections for a program that is stopped."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = f"https://127.0.0.1:{listener.getsockname()[1]}"
        with (
            contextlib.closing(
                KubeClient(Credentials(server=server, token="t"), connect_timeout_s=0.2)
            ) as client,
            pytest.raises(Unreachable) as caught,
        ):
            client.whoami()
    assert caught.value.fault is Fault.TIMEOUT


def test_an_answer_that_never_ends_is_given_up_in_time():
    """A server that drips a byte now and then is never silent for long."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        context = tls.loopback()
        stop = threading.Event()

        def drip() -> None:
            connection, _ = listener.accept()
            with context.wrap_socket(connection, server_side=True) as secure, contextlib.suppress(OSError):
                secure.recv(65536)
                secure.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                while not stop.wait(0.02):
                    secure.sendall(b"1\r\n \r\n")

        thread = threading.Thread(target=drip)
        thread.start()
        credentials = Credentials(
            server=f"https://127.0.0.1:{listener.getsockname()[1]}", ca_data=tls.authority().pem, token="t"
        )
        with contextlib.closing(KubeClient(credentials, whole_timeout_s=0.3)) as client:
            with pytest.raises(Unreachable) as caught:
                client.whoami()
            assert caught.value.fault is Fault.SLOW
        stop.set()
        thread.join(10)


def test_reads_and_applies_are_repeated_where_the_connection_broke(client, fake_kube):
    client.apply(things.config_map("default", a="1"))
    for verb in ("get", "list"):
        fake_kube.reset(verb=verb, resource="configmaps")
    assert client.get(kinds.CONFIG_MAP, "words", "default")["data"] == {"a": "1"}
    assert client.list(kinds.CONFIG_MAP, "default").items
    fake_kube.lose_answers(verb="patch")
    assert client.apply(things.config_map("default", a="2"))["data"] == {"a": "2"}


def test_a_create_is_never_repeated(client, fake_kube):
    """Its answer is lost, and it was done: a second one would make two, or be told of a conflict."""
    fake_kube.lose_answers(verb="create", resource="configmaps")
    with pytest.raises(Unreachable) as caught:
        client.create(kinds.CONFIG_MAP, things.config_map("default"))
    assert caught.value.fault is Fault.RESET
    assert len([call for call in fake_kube.calls if call.verb == "create" and call.writes]) == 1
    assert client.get(kinds.CONFIG_MAP, "words", "default") is not None


def test_a_busy_server_is_asked_again(client, fake_kube):
    fake_kube.busy(1, retry_after=1, verb="get", resource="configmaps")
    began = time.monotonic()
    assert client.get(kinds.CONFIG_MAP, "words", "default") is None
    assert 1 <= time.monotonic() - began < 5


def test_a_server_that_stays_busy_is_left_alone(client, fake_kube, monkeypatch):
    slept = []
    monkeypatch.setattr("clusters.kube.client.time.sleep", slept.append)
    fake_kube.busy(10, retry_after=2)
    with pytest.raises(TooManyRequests) as caught:
        client.get(kinds.CONFIG_MAP, "words", "default")
    assert caught.value.retry_after == 2
    assert slept == [2.0, 2.0]
    fake_kube.heal()
    fake_kube.busy(10, retry_after=60)
    with pytest.raises(TooManyRequests):
        client.get(kinds.CONFIG_MAP, "words", "default")
    assert slept == [2.0, 2.0]


def test_a_server_in_trouble_says_so(client, fake_kube):
    fake_kube.fail(503, reason="ServiceUnavailable", message="etcd is away")
    with pytest.raises(ServerTrouble, match="etcd is away") as caught:
        client.get(kinds.CONFIG_MAP, "words", "default")
    assert (caught.value.status, caught.value.reason) == (503, "ServiceUnavailable")


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        (400, "BadRequest", Invalid),
        (401, "Unauthorized", Unauthorized),
        (403, "Forbidden", Forbidden),
        (404, "NotFound", NotFound),
        (409, "Conflict", Conflict),
        (410, "Gone", Gone),
        (422, "Invalid", Invalid),
        (418, "Teapot", KubeError),
        (500, "InternalError", ServerTrouble),
        (504, "Timeout", ServerTrouble),
        (500, "Expired", Gone),
    ],
)
def test_statuses_have_names(status, reason, expected):
    error = error_of(status, {"reason": reason, "message": "words"})
    assert type(error) is expected
    assert error.message == "words"


def test_long_messages_are_cut():
    assert len(str(error_of(500, {"message": "x" * 100_000}))) == 2000


def test_an_apply_with_an_unknown_field_is_invalid():
    body = {
        "message": "failed to create typed patch object (a/a; /v1, Kind=Pod): .x: field not declared in schema"
    }
    assert type(error_of(500, body)) is Invalid


@pytest.mark.kubernetes(real=True)
def test_a_real_server_refuses_unknown_fields(apiserver):
    with contextlib.closing(KubeClient(apiserver.admin)) as client:
        obj = {**things.config_map("default"), "unheard": {"of": "1"}}
        with pytest.raises(Invalid, match="unheard"):
            client.apply(obj)


@contextlib.contextmanager
def _answering(answer: bytes):
    """Something with TLS that gives one answer to everything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with tls.loopback().wrap_socket(connection, server_side=True) as secure:
                        secure.recv(65536)
                        secure.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield Credentials(
            server=f"https://127.0.0.1:{listener.getsockname()[1]}",
            ca_data=tls.authority().pem,
            token="secret",
        )
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]",
        b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere.example/\r\nContent-Length: 0\r\n"
        b"Connection: close\r\n\r\n",
    ],
    ids=["html", "list", "redirect"],
)
def test_what_is_no_kubernetes_is_told(answer):
    """A redirect among it: it would carry the token elsewhere."""
    with _answering(answer) as credentials, contextlib.closing(KubeClient(credentials)) as client:
        with pytest.raises(Unreachable) as caught:
            client.version()
        assert caught.value.fault is Fault.NOT_KUBERNETES


def test_a_proxy_takes_part_only_where_no_proxy_does_not_say_otherwise(fake_kube, monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with contextlib.closing(KubeClient(fake_kube.admin)) as client:
        assert client.whoami() == "admin"
    monkeypatch.setenv("NO_PROXY", "elsewhere.example")
    monkeypatch.setenv("no_proxy", "elsewhere.example")
    with contextlib.closing(KubeClient(fake_kube.admin)) as client, pytest.raises(Unreachable) as caught:
        client.whoami()
    assert caught.value.fault is Fault.PROXY


def test_credentials_change_without_a_pause(fake_kube):
    old, new = fake_kube.token("berth"), fake_kube.token("berth-2")
    with contextlib.closing(KubeClient(fake_kube.credentials(old))) as client:
        assert client.whoami() == "berth"
        client.rotate(fake_kube.credentials(new))
        fake_kube.revoke(old)
        assert client.whoami() == "berth-2"


def test_many_threads_may_use_one_client(client):
    errors = []

    def work(number: int) -> None:
        try:
            for step in range(5):
                client.apply(things.config_map("default", f"words-{number}", a=str(step)))
        except KubeError as error:
            errors.append(error)

    before = threading.active_count()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    listed = client.list(kinds.CONFIG_MAP, "default").items
    assert {item["data"]["a"] for item in listed} == {"4"}
    assert len(listed) == 20
    assert threading.active_count() == before


def test_every_request_is_announced_in_the_words_of_rbac(client):
    told = []
    client.on_request = lambda request: told.append(dataclasses.astuple(request)[:6])
    client.apply(things.deployment("default"))
    client.apply(things.deployment("default"))
    client.get(kinds.NAMESPACE, "default")
    client.list(kinds.NODE)
    client.delete(kinds.DEPLOYMENT, "engine", "default")
    with pytest.raises(NotFound):
        client.log("default", "nobody")
    client.can("get", kinds.POD)
    assert told == [
        ("patch", "apps", "deployments", "", "default", "engine"),
        ("create", "apps", "deployments", "", "default", "engine"),  # what the first apply used besides
        ("patch", "apps", "deployments", "", "default", "engine"),
        ("get", "", "namespaces", "", "default", "default"),
        ("list", "", "nodes", "", "", ""),
        ("delete", "apps", "deployments", "", "default", "engine"),
        ("get", "", "pods", "log", "default", "nobody"),
        ("create", "authorization.k8s.io", "selfsubjectaccessreviews", "", "", ""),
    ]


def test_only_requests_that_may_change_the_cluster_count_as_writes(client):
    told = []
    client.on_request = told.append
    client.apply(things.config_map("default"))
    client.can("get", kinds.POD)
    client.whoami()
    client.list(kinds.POD)
    assert [request.verb for request in told if request.writes] == ["patch"]


def test_a_list_that_is_forgotten_between_its_pages_is_begun_anew(client, fake_kube, monkeypatch):
    monkeypatch.setattr("clusters.kube.client._PAGE", 2)
    for number in range(5):
        client.create(kinds.CONFIG_MAP, things.config_map("default", f"words-{number}"))
    pages = []

    def between(request) -> None:
        pages.append(request)
        if len(pages) == 2:
            fake_kube.expire()

    client.on_request = between
    assert len(client.list(kinds.CONFIG_MAP, "default").items) == 5
    assert len(pages) == 2 + 3


def test_a_closed_client_sends_nothing(client, fake_kube):
    client.close()
    with pytest.raises(Unreachable, match="closed by Berth"):
        client.whoami()
    assert fake_kube.calls == []
