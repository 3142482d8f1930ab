"""A picture kept by watches stays true through what clusters do to watches."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest

from clusters.kube import kinds
from clusters.kube.client import KubeClient
from clusters.kube.errors import Gone
from clusters.kube.watch import Reflector
from tests.kube import things

pytestmark = pytest.mark.kubernetes

SOON_S = 15


def eventually(check, within_s: float = SOON_S):
    """Poll until ``check`` gives something true; gives it."""
    until = time.monotonic() + within_s
    while not (found := check()):
        assert time.monotonic() < until, "it did not come in time"
        time.sleep(0.01)
    return found


class Seen:
    """What a reflector told."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, str]] = []

    def __call__(self, kind, old, new) -> None:
        what = "added" if old is None else "gone" if new is None else "changed"
        self.changes.append((what, (new or old)["metadata"]["name"]))


@contextlib.contextmanager
def reflecting(client, namespace, **how):
    reflector = Reflector(client, kinds.CONFIG_MAP, namespace, backoff_s=(0.02, 0.2), **how).start()
    try:
        assert reflector.wait(SOON_S)
        yield reflector
    finally:
        assert reflector.stop()


def has(reflector: Reflector, namespace: str, name: str, value: str):
    return lambda: (reflector.get(name, namespace) or {}).get("data", {}).get("a") == value


def test_it_begins_with_what_is_there_and_follows(kube_client, kube_namespace):
    kube_client.apply(things.config_map(kube_namespace, "old", a="1"))
    seen = Seen()
    with reflecting(kube_client, kube_namespace, on_change=seen, fields="metadata.name!=other") as reflector:
        assert has(reflector, kube_namespace, "old", "1")()
        kube_client.apply(things.config_map(kube_namespace, "new", a="1"))
        kube_client.apply(things.config_map(kube_namespace, "new", a="2"))
        kube_client.apply(things.config_map(kube_namespace, "other", a="2"))
        kube_client.delete(kinds.CONFIG_MAP, "old", kube_namespace)
        eventually(lambda: ("gone", "old") in seen.changes)
    assert [change for change in seen.changes if change[1] != "kube-root-ca.crt"] == [
        ("added", "old"),
        ("added", "new"),
        ("changed", "new"),
        ("gone", "old"),
    ]
    assert set(reflector.store) - {(kube_namespace, "kube-root-ca.crt")} == {(kube_namespace, "new")}
    assert "managedFields" not in reflector.get("new", kube_namespace)["metadata"]


def test_what_leaves_the_selection_is_gone(kube_client, kube_namespace):
    obj = things.config_map(kube_namespace)
    obj["metadata"]["labels"] = {"mine": "yes"}
    kube_client.apply(obj)
    seen = Seen()
    with reflecting(kube_client, kube_namespace, labels="mine=yes", on_change=seen) as reflector:
        kube_client.patch(kinds.CONFIG_MAP, "words", kube_namespace, {"metadata": {"labels": {"mine": "no"}}})
        eventually(lambda: not reflector.store)
        kube_client.patch(
            kinds.CONFIG_MAP, "words", kube_namespace, {"metadata": {"labels": {"mine": "yes"}}}
        )
        eventually(lambda: reflector.store)
    assert seen.changes == [("added", "words"), ("gone", "words"), ("added", "words")]


def test_a_watch_that_the_server_ends_is_resumed_without_a_new_list(kube_client, kube_namespace):
    requests = []
    kube_client.on_request = lambda request: requests.append(request.verb)
    with reflecting(kube_client, kube_namespace, watch_s=1) as reflector:
        eventually(lambda: requests.count("watch") >= 3)
        kube_client.apply(things.config_map(kube_namespace, a="1"))
        eventually(has(reflector, kube_namespace, "words", "1"))
    assert requests.count("list") == 1
    assert reflector.failure == ""


def test_stopping_does_not_wait_for_the_watch_to_end(kube_client, kube_namespace):
    before = threading.active_count()
    with reflecting(kube_client, kube_namespace, watch_s=200):
        began = time.monotonic()
    assert time.monotonic() - began < 3
    assert threading.active_count() == before


@pytest.mark.parametrize("as_status", [False, True], ids=["event", "status"])
def test_a_version_too_old_leads_to_a_new_list(fake_kube, as_status):
    """410 comes as an event in the stream, or as the status of the answer."""
    with contextlib.closing(KubeClient(fake_kube.admin)) as client:
        client.apply(things.config_map("default", "old", a="1"))
        client.apply(things.config_map("default", "kept", a="1"))
        seen = Seen()
        with reflecting(client, "default", on_change=seen) as reflector:
            eventually(lambda: fake_kube.watches == 1)
            fake_kube.silence_watches()
            client.delete(kinds.CONFIG_MAP, "old", "default")
            client.apply(things.config_map("default", "kept", a="2"))
            client.apply(things.config_map("default", "new", a="1"))
            fake_kube.expire(as_status=as_status)
            fake_kube.heal()
            fake_kube.reset_watches()
            eventually(lambda: ("gone", "old") in seen.changes)
            eventually(has(reflector, "default", "new", "1"))
        assert sorted(seen.changes) == sorted(
            [("added", "old"), ("added", "kept"), ("gone", "old"), ("changed", "kept"), ("added", "new")]
        )


def test_410_is_told_by_the_client(fake_kube):
    for as_status in (False, True):
        with contextlib.closing(KubeClient(fake_kube.admin)) as client:
            old = client.list(kinds.CONFIG_MAP).resource_version
            fake_kube.expire(as_status=as_status)
            with pytest.raises(Gone):
                list(client.watch(kinds.CONFIG_MAP, resource_version=old, timeout_s=5))


def test_a_broken_connection_is_resumed_where_it_was(fake_kube):
    with contextlib.closing(KubeClient(fake_kube.admin)) as client:
        with reflecting(client, "default") as reflector:
            eventually(lambda: fake_kube.watches == 1)
            lists = [call.verb for call in fake_kube.calls].count("list")
            fake_kube.reset_watches()
            client.apply(things.config_map("default", a="1"))
            eventually(has(reflector, "default", "words", "1"))
        assert [call.verb for call in fake_kube.calls].count("list") == lists


def test_a_silent_connection_is_given_up(fake_kube, monkeypatch):
    """A watch whose packets are dropped says nothing and does not end."""
    with contextlib.closing(KubeClient(fake_kube.admin)) as client:
        stream = client._transport.stream
        monkeypatch.setattr(
            client._transport,
            "stream",
            lambda path, *, query, silence_s: stream(path, query=query, silence_s=0.3),
        )
        with reflecting(client, "default") as reflector:
            fake_kube.silence_watches()
            eventually(lambda: fake_kube.watches >= 1)
            client.apply(things.config_map("default", a="1"))
            eventually(lambda: "did not answer in time" in reflector.failure)
            fake_kube.heal()
            eventually(has(reflector, "default", "words", "1"))
            eventually(lambda: reflector.failure == "")


def test_a_silence_is_bounded_by_the_length_of_the_watch(fake_kube):
    with contextlib.closing(KubeClient(fake_kube.admin)) as client:
        asked = []
        stream = client._transport.stream

        def listening(path, *, query, silence_s):
            asked.append((query["timeoutSeconds"], query["allowWatchBookmarks"], silence_s))
            return stream(path, query=query, silence_s=silence_s)

        client._transport.stream = listening
        watch = client.watch(kinds.POD, resource_version="0", timeout_s=270)
        watch.open()
        watch.break_off()
        assert list(watch) == []
        assert asked == [("270", "true", 290.0)]


def test_bookmarks_carry_the_version_on(fake_kube):
    """A quiet watch is resumed from its last bookmark, so that it never falls out of the history."""
    fake_kube.set_bookmarks(0.05)
    with contextlib.closing(KubeClient(fake_kube.admin)) as client:
        version = int(client.list(kinds.POD).resource_version)
        for number in range(3):
            client.apply(things.config_map("default", a=str(number)))
        for event in client.watch(kinds.POD, resource_version=str(version), timeout_s=5):
            assert event.type == "BOOKMARK"
            assert int(event.object["metadata"]["resourceVersion"]) >= version + 3
            break


def test_a_busy_server_is_asked_again_after_the_time_it_names(fake_kube):
    with contextlib.closing(KubeClient(fake_kube.admin)) as client:
        fake_kube.busy(1, retry_after=1, verb="list")
        fake_kube.busy(1, retry_after=1, verb="watch")
        began = time.monotonic()
        with reflecting(client, "default") as reflector:
            assert time.monotonic() - began >= 1
            eventually(lambda: fake_kube.watches == 1)
            assert time.monotonic() - began >= 2
            client.apply(things.config_map("default", a="1"))
            eventually(has(reflector, "default", "words", "1"))


def test_a_cluster_that_goes_and_comes_back_is_followed_again(fake_kube):
    with contextlib.closing(KubeClient(fake_kube.admin)) as client:
        client.apply(things.config_map("default", a="1"))
        with reflecting(client, "default") as reflector:
            fake_kube.away()
            eventually(lambda: "refused" in reflector.failure)
            assert reflector.get("words", "default")["data"] == {"a": "1"}
            fake_kube.back()
            client.apply(things.config_map("default", a="2"))
            eventually(has(reflector, "default", "words", "2"))
            eventually(lambda: reflector.failure == "")


def test_a_watch_that_is_forbidden_does_not_hammer_the_server(fake_kube):
    with contextlib.closing(KubeClient(fake_kube.admin)) as client:
        fake_kube.fail(403, 10_000, reason="Forbidden", message="no watching", verb="watch")
        reflector = Reflector(client, kinds.CONFIG_MAP, "default", backoff_s=(0.05, 60.0)).start()
        eventually(lambda: reflector._failures >= 5)
        assert reflector.failure == "no watching"
        assert [call.verb for call in fake_kube.calls].count("list") <= 6
        assert reflector.stop()


def test_a_callback_that_fails_does_not_end_the_watch(fake_kube, caplog):
    def fail(kind, old, new):
        raise RuntimeError("no")

    with (
        contextlib.closing(KubeClient(fake_kube.admin)) as client,
        reflecting(client, "default", on_change=fail) as reflector,
    ):
        client.apply(things.config_map("default", a="1"))
        eventually(has(reflector, "default", "words", "1"))
        client.apply(things.config_map("default", a="2"))
        eventually(has(reflector, "default", "words", "2"))
    assert "was not taken up" in caplog.text


def test_a_stop_during_a_pause_is_prompt(fake_kube):
    with contextlib.closing(KubeClient(fake_kube.admin)) as client:
        fake_kube.fail(500, 10_000, verb="list")
        reflector = Reflector(client, kinds.CONFIG_MAP, "default", backoff_s=(60.0, 60.0)).start()
        eventually(lambda: reflector.failure)
        assert not reflector.synced
        assert reflector.stop(3)
