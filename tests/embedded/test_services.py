"""Real PostgreSQL and Redis, started once for the module."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from embedded import processes, services
from embedded.datadir import DataDir
from embedded.postgres import Postgres
from embedded.services import Services
from tests.embedded.conftest import eventually, is_running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataDir]:
    data_dir = DataDir(tmp_path_factory.mktemp("services") / "data")
    yield data_dir
    services.stop(data_dir)
    assert processes.reap_orphans(data_dir) == []


@pytest.fixture
def running(folder: DataDir) -> Services:
    return services.start(folder)


def rows(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def answers(url: str) -> bool:
    try:
        return rows(url, "SELECT 1") == [(1,)]
    except psycopg.OperationalError:
        return False


def test_the_application_role_is_neither_superuser_nor_owner(running: Services) -> None:
    assert rows(
        running.database_url,
        "SELECT current_user::text, rolsuper, rolbypassrls, rolcreatedb, rolcreaterole,"
        " pg_get_userbyid(datdba)::text, pg_encoding_to_char(encoding)::text"
        " FROM pg_roles, pg_database WHERE rolname = current_user AND datname = current_database()",
    ) == [("berth_app", False, False, False, False, "berth_owner", "UTF8")]
    assert rows(
        running.database_owner_url,
        "SELECT rolsuper, rolbypassrls, rolcreatedb FROM pg_roles WHERE rolname = current_user",
    ) == [(False, False, True)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        rows(running.database_url, "CREATE TABLE mine (i int)")


def test_row_level_security_holds_for_the_application_role(running: Services) -> None:
    for statement in (
        "CREATE TABLE guarded (i int)",
        "ALTER TABLE guarded ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE guarded FORCE ROW LEVEL SECURITY",
        "CREATE POLICY low ON guarded USING (i < 10)",
    ):
        rows(running.database_owner_url, statement)
    rows(running.database_url, "INSERT INTO guarded VALUES (1)")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
        rows(running.database_url, "INSERT INTO guarded VALUES (11)")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        rows(running.database_url, "TRUNCATE guarded")


def test_passwords_are_demanded_and_kept_from_others(running: Services, folder: DataDir) -> None:
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(running.database_url.replace("berth_app:", "berth_app:wrong"))
    with pytest.raises(redis.AuthenticationError):
        redis.Redis.from_url(running.redis_url.replace("//:", "//:wrong")).ping()
    for name in ("postgres.json", "redis.json", "services.json", "redis/redis.conf"):
        assert stat.S_IMODE((folder.path / name).stat().st_mode) == 0o600
    password = running.redis_url.split(":")[2].split("@")[0]
    assert password not in subprocess.run(["ps", "axww"], capture_output=True, text=True, check=True).stdout


def test_databases_are_cloned_from_a_template_and_dropped_under_their_users(folder: DataDir, running) -> None:
    postgres = Postgres(folder)
    postgres.create_database("first")
    rows(postgres.owner_url("first"), "CREATE TABLE kept AS SELECT 5 AS i")
    postgres.create_database("second", template="first")
    with psycopg.connect(postgres.app_url("second")) as connection:
        assert connection.execute("SELECT i FROM kept").fetchone() == (5,)
        postgres.drop_database("second")
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    postgres.drop_database("first")
    postgres.drop_database("first")


def test_gateways_share_limits_in_a_database_of_their_own(running: Services) -> None:
    with redis.Redis.from_url(running.environment()["BERTH_GATEWAY_REDIS_URL"]) as limits:
        limits.set("berth:limits:life", "1")
    with redis.Redis.from_url(running.redis_url) as queues:
        assert queues.get("berth:limits:life") is None


def test_a_second_start_finds_the_first(folder: DataDir, running: Services) -> None:
    found: list[Services] = []
    threads = [threading.Thread(target=lambda: found.append(services.start(folder))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [running] * 3
    assert services.current(folder) == running


def test_the_watchdog_brings_back_killed_servers_with_all_that_was_committed(
    folder: DataDir, running: Services
) -> None:
    rows(running.database_owner_url, "CREATE TABLE ledger AS SELECT generate_series(1, 1000) AS i")
    queue = redis.Redis.from_url(running.redis_url)
    queue.rpush("queue", "task")
    # Redis writes its log once a second; only what it has on disk must survive.
    eventually(lambda: queue.info("persistence")["aof_pending_bio_fsync"] == 0)
    watchdog = services.Watchdog(folder, interval_s=0.05)
    watchdog.start()
    try:
        for pid in running.pids:
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: answers(running.database_url))
        assert rows(running.database_url, "SELECT count(*), sum(i) FROM ledger") == [(1000, 500500)]
        eventually(
            lambda: (now := services.current(folder)) is not None and not set(now.pids) & set(running.pids)
        )
    finally:
        watchdog.stop()
    assert redis.Redis.from_url(running.redis_url).lrange("queue", 0, -1) == [b"task"]
    now = services.current(folder)
    assert now is not None
    assert (now.database_url, now.redis_url) == (running.database_url, running.redis_url)


def test_a_lock_file_of_a_dead_server_that_names_a_living_pid_does_not_stop_a_start(
    folder: DataDir, running
) -> None:
    postgres = Postgres(folder)
    lock = postgres.cluster / "postmaster.pid"
    record = postgres.alive()
    assert record is not None
    lines = lock.read_text().splitlines()
    os.kill(record.pid, signal.SIGKILL)
    eventually(lambda: not processes.alive(record))
    with subprocess.Popen(["/bin/sleep", "600"], process_group=0) as bystander:
        lock.write_text("\n".join([str(bystander.pid), *lines[1:]]) + "\n")
        assert answers(services.start(folder).database_url)
        assert bystander.poll() is None
        bystander.kill()


def test_stop_ends_both_and_leaves_nothing_in_shared_memory(tmp_path: Path, folder: DataDir, running) -> None:
    before = set(os.listdir("/dev/shm"))
    services.stop(folder)
    assert not any(is_running(pid) for pid in running.pids)
    assert services.current(folder) is None
    assert list(folder.run.iterdir()) == []
    assert not {name for name in set(os.listdir("/dev/shm")) - before if name.startswith("berth_")}
    services.stop(folder)
    assert answers(services.start(folder).database_url)
