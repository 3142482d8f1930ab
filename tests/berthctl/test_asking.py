"""What the client does with answers: it waits where it is asked to, sends once, and tells failures in words."""

from __future__ import annotations

import httpx
import pytest

from tests.berthctl.conftest import Berthctl, Scripted

TENANT = {"name": "Acme", "slug": "acme", "currency": "EUR", "quotas": []}
PROBLEM = {"type": "/docs/errors#over-quota", "title": "A quota would be exceeded", "status": 403, "code": "over-quota",
           "detail": "Your quota is 8.", "errors": {"replicas": ["Too many."]}}  # fmt: skip


@pytest.fixture
def ask(environment):
    """Run a command against answers that are given."""
    environment |= {"BERTH_URL": "https://berth.example/", "BERTH_TOKEN": "berth_x"}

    def asked(*answers, command=("whoami",), status=0):
        transport = Scripted(*answers)
        berthctl = Berthctl(environment, transport)
        return berthctl.run(*command, status=status), transport.asked, berthctl.pauses

    return asked


def ok(value=TENANT) -> httpx.Response:
    return httpx.Response(200, json=value)


@pytest.mark.parametrize("status", [429, 503])
def test_it_waits_as_long_as_it_is_asked_to(ask, status):
    told, asked, pauses = ask(
        httpx.Response(status, headers={"Retry-After": "7"}), httpx.Response(status), ok()
    )
    assert pauses == [7, 1]
    assert "Asked to wait 7 s" in told.stderr
    assert [str(each.url) for each in asked] == ["https://berth.example/api/v1/tenant"] * 3
    assert asked[0].headers["Authorization"] == "Bearer berth_x"


def test_it_does_not_wait_for_ever(ask):
    busy = httpx.Response(503, headers={"Retry-After": "3600"})
    _, asked, pauses = ask(busy, status=5)
    assert (len(asked), pauses) == (1, [])
    _, asked, _ = ask(*[httpx.Response(503)] * 4, status=5)
    assert len(asked) == 4


def test_what_is_sent_again_is_the_same_request(ask):
    busy = httpx.Response(429, headers={"Retry-After": "1"})
    refused = httpx.Response(403, json=PROBLEM)
    order = ("order", "chat", "--model", "m", "--class", "batch", "--project", "default", "--yes")
    told, asked, _ = ask(httpx.ConnectError("gone"), busy, refused, command=order, status=1)
    keys = {each.headers["Idempotency-Key"] for each in asked}
    assert (len(asked), len(keys)) == (3, 1)
    assert told.stderr.splitlines()[-4:] == [
        "Asked to wait 1 s…",
        "Error: A quota would be exceeded. Your quota is 8.",
        "  replicas: Too many.",
        "What to do: https://berth.example/docs/errors#over-quota",
    ]


def test_what_cannot_be_reached(ask):
    told, _, pauses = ask(*[httpx.ConnectError("no route")] * 4, status=5)
    assert "https://berth.example cannot be reached: no route" in told.stderr
    assert len(pauses) == 3
    assert "not as Berth does" in ask(httpx.Response(302), status=5)[0].stderr
    assert "answers 502. Try again later." in ask(httpx.Response(502, text="<html>"), status=5)[0].stderr


def test_what_others_wrote_steers_no_terminal(ask):
    told, _, _ = ask(ok({**TENANT, "name": "Acme\x1b[2J"}))
    assert "\x1b" not in told.stdout


def test_pages_are_followed_where_they_are_ours(ask):
    one = {"name": "a", "project": "p", "model": "m", "slo_class": "s", "state": "ready", "reason": ""}
    first = ok({"results": [one], "next": "https://berth.example/api/v1/endpoints?cursor=x"})
    told, asked, _ = ask(first, ok({"results": [{**one, "name": "b"}], "next": None}), command=("status",))
    assert str(asked[1].url) == "https://berth.example/api/v1/endpoints?cursor=x"
    assert [line.split()[0] for line in told.stdout.splitlines()] == ["NAME", "a", "b"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete(ask, shell):
    assert "_BERTHCTL_COMPLETE" in ask(command=("completion", shell))[0].stdout
