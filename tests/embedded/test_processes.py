from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from embedded import processes
from embedded.datadir import DataDir, write_json
from embedded.errors import EmbeddedError
from tests.embedded.conftest import carriers, eventually, is_running, pid_in

Command = Callable[[], list[str]]
SLEEP = ["/bin/sleep", "600"]


def test_a_spawned_process_is_found_by_its_name_and_logs_to_its_file(data_dir: DataDir) -> None:
    record = processes.spawn("greeter", ["/bin/sh", "-c", "echo hello; exec sleep 600"], data_dir=data_dir)
    assert processes.find(data_dir, "greeter") == record
    assert os.getsid(record.pid) == record.pid
    eventually(lambda: (data_dir.logs / "greeter.log").read_text() == "hello\n")
    processes.stop(record, grace_s=5)
    assert not is_running(record.pid)
    assert processes.find(data_dir, "greeter") is None
    assert processes.records(data_dir) == []


def test_what_cannot_be_started_says_so(data_dir: DataDir) -> None:
    with pytest.raises(EmbeddedError, match="nothing-here"):
        processes.spawn("missing", ["/nothing-here"], data_dir=data_dir)
    with pytest.raises(EmbeddedError, match="not of letters"):
        processes.spawn("../escape", SLEEP, data_dir=data_dir)
    assert processes.records(data_dir) == []


def test_stop_kills_a_tree_that_ignores_sigterm_and_left_its_group(
    data_dir: DataDir, tmp_path: Path, stubborn: Command
) -> None:
    record = processes.spawn("stubborn", stubborn(), data_dir=data_dir)
    child = pid_in(tmp_path / "child.pid")
    pid_in(tmp_path / "parent.pid")
    processes.stop(record, grace_s=0.2)
    assert not is_running(record.pid)
    assert not is_running(child)


def test_stop_finds_children_whose_parent_died_first(
    data_dir: DataDir, tmp_path: Path, stubborn: Command
) -> None:
    record = processes.spawn("stubborn", stubborn(), data_dir=data_dir)
    child = pid_in(tmp_path / "child.pid")
    os.kill(record.pid, signal.SIGKILL)
    eventually(lambda: not processes.alive(record))
    assert is_running(child)
    processes.stop(record, grace_s=0.2)
    assert not is_running(child)


def test_reaping_finds_orphans_without_any_record(
    data_dir: DataDir, tmp_path: Path, stubborn: Command
) -> None:
    record = processes.spawn("stubborn", stubborn(), data_dir=data_dir)
    child = pid_in(tmp_path / "child.pid")
    (data_dir.run / "stubborn.json").unlink()
    assert set(processes.reap_orphans(data_dir)) == {record.pid, child}
    assert carriers(data_dir) == []


def test_reaping_spares_what_is_kept_and_other_folders(data_dir: DataDir, tmp_path: Path) -> None:
    other = DataDir(tmp_path / "other")
    kept = processes.spawn("kept", ["/bin/sh", "-c", "sleep 600; true"], data_dir=data_dir)
    gone = processes.spawn("gone", SLEEP, data_dir=data_dir)
    foreign = processes.spawn("foreign", SLEEP, data_dir=other)
    eventually(lambda: len(carriers(data_dir)) == 3)
    assert processes.reap_orphans(data_dir, keep=[kept.pid]) == [gone.pid]
    assert len(carriers(data_dir)) == 2
    assert processes.records(data_dir) == [kept]
    assert processes.alive(foreign)
    processes.reap_orphans(other)


def test_a_process_that_got_the_pid_of_a_dead_one_is_left_alone(data_dir: DataDir) -> None:
    with subprocess.Popen(SLEEP) as bystander:
        ours = processes.this_process("old", data_dir=data_dir)
        stale = dataclasses.replace(ours, pid=bystander.pid, start_time=1)
        write_json(data_dir.run / "old.json", dataclasses.asdict(stale))
        assert not processes.alive(stale)
        assert processes.reap_orphans(data_dir) == []
        processes.stop(stale, grace_s=0)
        assert bystander.poll() is None
        bystander.kill()
    assert list(data_dir.run.iterdir()) == []


def test_one_servers_leftovers_are_reaped_and_the_others_stay(data_dir: DataDir) -> None:
    servers = {
        server: processes.spawn(
            f"server-{server}", SLEEP, data_dir=data_dir, env={**os.environ, "BERTH_SERVER": server}
        )
        for server in ("a", "a_b")
    }
    regions = {server: Path("/dev/shm", processes.shm_prefix(data_dir, server) + "0") for server in servers}
    for region in regions.values():
        region.write_bytes(b"\0")
    assert regions["a"].name.startswith(f"berth_{data_dir.instance}_a_")
    assert processes.reap_matching(data_dir, "BERTH_SERVER", "a_b") == [servers["a_b"].pid]
    assert processes.alive(servers["a"])
    assert regions["a"].exists()
    assert not regions["a_b"].exists()
    processes.reap_orphans(data_dir)
    assert not regions["a"].exists()


def test_shared_memory_goes_unless_something_kept_has_it_mapped(data_dir: DataDir) -> None:
    used, left = (Path(f"/dev/shm/berth_{data_dir.instance}_{name}") for name in ("used", "left"))
    foreign = Path(f"/dev/shm/berth_{data_dir.instance}x_foreign")
    try:
        for region in (used, left, foreign):
            region.write_bytes(b"\0" * 4096)
        program = (
            "import mmap, sys, time\nfile = open(sys.argv[1], 'r+b')\nm = mmap.mmap(file.fileno(), 0)\n"
            "print(1, flush=True)\ntime.sleep(600)"
        )
        holder = processes.spawn("holder", [sys.executable, "-c", program, used], data_dir=data_dir)
        eventually(lambda: (data_dir.logs / "holder.log").read_text() == "1\n")
        processes.reap_orphans(data_dir, keep=[holder.pid])
        assert [region.exists() for region in (used, left, foreign)] == [True, False, True]
        processes.reap_orphans(data_dir)
        assert not used.exists()
    finally:
        foreign.unlink()


def test_free_ports_differ_and_can_be_listened_on() -> None:
    ports = processes.free_ports(5)
    assert len(set(ports)) == 5
    assert all(processes.port_is_free(port) for port in ports)
