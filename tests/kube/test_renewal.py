"""A ServiceAccount's token is renewed before it ends, and only its own."""

from __future__ import annotations

import contextlib
import datetime as dt

import pytest

from clusters.kube.client import KubeClient
from clusters.kube.errors import Forbidden
from clusters.kube.renewal import due, renew, token_life
from tests.kube import things

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.mark.kubernetes
def test_an_account_renews_its_own_token_and_no_others(kube_server, kube_client, kube_namespace):
    for name in ("berth", "someone"):
        kube_client.apply(things.account(kube_namespace, name))
    role = things.role(kube_namespace, ("", "serviceaccounts/token", ["create"]))
    role["rules"][0]["resourceNames"] = ["berth"]
    kube_client.apply(role)
    kube_client.apply(things.binding(kube_namespace, "berth"))
    first, _ = renew(kube_client, kube_namespace, "berth", 600)
    with contextlib.closing(KubeClient(kube_server.credentials(first))) as berth:
        second, ends = renew(berth, kube_namespace, "berth", 1200)
        assert second != first
        life = token_life(second)
        assert (life.namespace, life.name) == (kube_namespace, "berth")
        assert abs((life.expires_at - ends).total_seconds()) <= 1
        assert life.expires_at - life.issued_at == dt.timedelta(seconds=1200)
        berth.rotate(kube_server.credentials(second))
        assert berth.whoami() == f"system:serviceaccount:{kube_namespace}:berth"
        with pytest.raises(Forbidden):
            renew(berth, kube_namespace, "someone", 600)


@pytest.mark.parametrize(
    "token", ["", "opaque", "a.b.c", "a.e30.c", "a.bnVsbA.c", "a.W10.c", "a.eyJzdWIiOjF9.c", "é.é.é"]
)
def test_what_is_no_account_token_has_no_known_life(token):
    assert token_life(token) is None


def test_a_token_is_due_after_two_thirds_of_its_life():
    ends = NOW + dt.timedelta(hours=24)
    assert not due(ends, NOW, NOW + dt.timedelta(hours=15, minutes=59))
    assert due(ends, NOW, NOW + dt.timedelta(hours=16))
    assert due(ends, NOW, ends + dt.timedelta(hours=1))
