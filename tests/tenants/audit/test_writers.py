"""Many who write at once, committed for real: chains stay whole, and who writes waits for nobody else's work."""

from __future__ import annotations

import itertools
import random
import threading
import uuid

import psycopg
import pytest

from tenants.audit.verifying import chains, verify_stored

NOTE = "SELECT berth_audit_note(%s, 'test.act', '', '', '', NULL, NULL)"
WRITERS, ACTS = 6, 15


def app(url: str) -> psycopg.Connection:
    connected = psycopg.connect(url)
    # Whoever waits for longer waits for somebody's transaction to end, or for each other.
    connected.execute("SET lock_timeout = '20s'")
    connected.commit()
    return connected


@pytest.fixture
def url(committed_db) -> str:
    return committed_db


def test_chains_stay_whole_while_many_write_to_several_of_them_in_any_order(url):
    whose = [None, uuid.uuid4(), uuid.uuid4(), uuid.uuid4()]
    barrier, failed = threading.Barrier(WRITERS), []

    def write(seed: int) -> None:
        chance = random.Random(seed)
        with app(url) as connected:
            barrier.wait(60)
            try:
                for _ in range(ACTS):
                    for chain in chance.sample(whose, 3):
                        connected.execute(NOTE, [chain])
                    connected.commit()
            except psycopg.Error as error:
                failed.append(error)

    threads = [threading.Thread(target=write, args=[seed]) for seed in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    verdicts = [verify_stored(chain) for chain in chains()]
    assert [verdict.broken for verdict in verdicts] == [None] * len(whose)
    assert sum(verdict.entries for verdict in verdicts) >= 3 * WRITERS * ACTS


@pytest.mark.parametrize("same", [True, False])
def test_who_commits_waits_for_no_open_transaction(url, same):
    one, two = uuid.uuid4(), uuid.uuid4()
    with app(url) as first, app(url) as second:
        first.execute(NOTE, [one])
        if not same:
            first.execute("SET CONSTRAINTS ALL IMMEDIATE")  # holds the end of its chain, as while it commits
        second.execute("SET lock_timeout = '1s'")
        second.execute(NOTE, [one if same else two])
        second.commit()
        first.commit()
    written = {
        chain: verify_stored(chain) for chain in map(str, itertools.chain([one], [] if same else [two]))
    }
    assert {verdict.entries for verdict in written.values()} == ({2} if same else {1})
    assert all(verdict.broken is None for verdict in written.values())
