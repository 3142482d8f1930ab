"""Faults on purpose: done to real processes and connections, and taken back whoever dies."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from embedded import processes, proctable
from embedded.datadir import DataDir
from embedded.faults import doing, guard, journal, parts, relay, wires
from embedded.faults.errors import Refused
from embedded.runner import kept_command
from tests.embedded.conftest import eventually

ROOT = Path(__file__).resolve().parents[2]
SLEEPS = [sys.executable, "-c", "import subprocess, sys, time; time.sleep(600)"]
WRITES = """
import pathlib, signal, sys, time
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder = pathlib.Path(sys.argv[1])
while True:
    try:
        with open(folder / "grows", "a") as file:
            file.write("x")
        (folder / "full").unlink(missing_ok=True)
    except OSError:
        with __import__("contextlib").suppress(OSError):
            (folder / "full").touch()
    time.sleep(0.02)
"""
BREAKS = """
import sys, time
from embedded.datadir import DataDir
from embedded.faults import doing, guard, journal, parts
data_dir = DataDir(sys.argv[1])
victims = parts.find(data_dir, "web")
fault = journal.opened(
    data_dir, kind="pause", target="web", until=time.time() + float(sys.argv[2]), undo=doing.pausing(victims)
)
with guard.guarded(data_dir, fault):
    time.sleep(float(sys.argv[4]))
    doing.pause(victims)
    print("paused", flush=True)
    time.sleep(float(sys.argv[3]))
"""


def state(process: psutil.Process) -> str:
    found = proctable.stat(process.pid)
    return found[0] if found else ""


def test_a_part_is_found_by_its_mark_without_its_keeper_and_dies_at_once(data_dir: DataDir) -> None:
    line = kept_command(f"{sys.executable} -c 'import time; time.sleep(600)'", grace_s=1)
    processes.spawn("web", ["/bin/sh", "-c", line], data_dir=data_dir, cwd=ROOT)
    processes.spawn("redis", SLEEPS, data_dir=data_dir)
    found: list[psutil.Process] = []

    def kept() -> list[psutil.Process]:
        with contextlib.suppress(Refused):
            found[:] = [
                each for each in parts.find(data_dir, "web") if "time.sleep" in " ".join(each.cmdline())
            ]
        return found

    eventually(kept)
    before = {each.pid for each in found}
    assert set(parts.kill(parts.find(data_dir, "web"))) == before
    eventually(lambda: kept() and before.isdisjoint({each.pid for each in found}))
    (redis,) = parts.find(data_dir, "redis")
    assert parts.kill([redis]) == [redis.pid]
    eventually(lambda: processes.find(data_dir, "redis") is None)
    with pytest.raises(Refused, match="No process of redis runs"):
        parts.find(data_dir, "redis")
    with pytest.raises(Refused, match="no part 'mainframe'; there are web, worker"):
        parts.find(data_dir, "mainframe")


@pytest.mark.parametrize(
    ("ending", "lasts", "stays", "slow"),
    [
        ("its time", "1", "600", "0"),
        ("kill -9", "600", "600", "0"),
        ("its own end", "600", "0.1", "0"),
        ("its own end", "0", "0.1", "1"),  # done when its time is over already
        ("kill -9", "0", "600", "1"),
    ],
)
def test_what_was_paused_runs_again_whatever_ends_the_fault(
    data_dir: DataDir, ending: str, lasts: str, stays: str, slow: str
) -> None:
    record = processes.spawn("web", SLEEPS, data_dir=data_dir)
    victim = psutil.Process(record.pid)
    command = [sys.executable, "-c", BREAKS, str(data_dir.path), lasts, stays, slow]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as breaker:
        assert breaker.stdout is not None
        assert breaker.stdout.readline() == b"paused\n"
        if ending == "kill -9":
            eventually(lambda: state(victim) == "T")
            breaker.kill()
        eventually(lambda: state(victim) == "S")
        breaker.kill()
        eventually(lambda: journal.listed(data_dir) == [])


def test_what_the_guard_takes_to_come_up_is_no_part_of_the_time(data_dir: DataDir) -> None:
    fault = journal.opened(data_dir, kind="pause", target="web", until=time.time() + 600, undo=[])
    line = f"sleep 1; exec {sys.executable} -m embedded.faults.guard {data_dir.path} {fault.id}"
    with guard.guarded(data_dir, fault, command=["/bin/sh", "-c", line]) as timed:
        assert timed.until >= fault.until + 1
        assert journal.listed(data_dir) == [timed]
    assert journal.listed(data_dir) == []


def test_what_a_dead_guard_leaves_is_taken_back(data_dir: DataDir) -> None:
    victims = [psutil.Process(processes.spawn("beat", SLEEPS, data_dir=data_dir).pid)]
    steps = doing.pausing(victims)
    fault = journal.opened(data_dir, kind="pause", target="beat", until=time.time() + 600, undo=steps)
    with guard.guarded(data_dir, fault):
        doing.pause(victims)
        eventually(lambda: state(victims[0]) == "T")
        for child in psutil.Process().children():
            if fault.id in child.cmdline():
                child.kill()
    eventually(lambda: state(victims[0]) == "S")
    assert journal.listed(data_dir) == []


def test_what_is_left_behind_by_all_who_died_is_taken_back_from_the_journal(data_dir: DataDir) -> None:
    victims = [psutil.Process(processes.spawn("beat", SLEEPS, data_dir=data_dir).pid)]
    steps = doing.pausing(victims)
    left = journal.opened(data_dir, kind="pause", target="beat", until=time.time() - 1, undo=steps)
    doing.pause(victims)
    (found,) = journal.listed(data_dir)
    assert found == left
    guard.heal(data_dir, found)
    eventually(lambda: state(victims[0]) == "S")
    assert journal.listed(data_dir) == []
    guard.heal(data_dir, found)  # once more does no harm


def test_another_process_with_the_pid_is_left_alone(data_dir: DataDir) -> None:
    victim = psutil.Process(processes.spawn("beat", SLEEPS, data_dir=data_dir).pid)
    doing.pause([victim])
    eventually(lambda: state(victim) == "T")
    (step,) = doing.pausing([victim])
    stale = {**step, "start_time": step["start_time"] - 1}
    doing.undo(journal.Fault(id="x", kind="pause", target="beat", until=0, undo=[stale]))
    assert state(victim) == "T"


def test_without_a_guard_nothing_is_done(data_dir: DataDir, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = journal.opened(data_dir, kind="pause", target="web", until=time.time() + 600, undo=[])
    with (
        pytest.raises(Refused, match="nothing was done"),
        guard.guarded(data_dir, fault, command=["/bin/false"]),
    ):
        pytest.fail("it was done all the same")
    assert journal.listed(data_dir) == []


def test_a_full_disk_is_full_for_one_process_and_has_room_again(data_dir: DataDir, tmp_path: Path) -> None:
    record = processes.spawn("gateway", [sys.executable, "-c", WRITES, str(tmp_path)], data_dir=data_dir)
    grows = tmp_path / "grows"
    eventually(grows.exists)
    victims = [psutil.Process(record.pid)]
    fault = journal.opened(data_dir, kind="fill-disk", target="gateway", until=0, undo=doing.filling(victims))
    doing.fill(victims)
    eventually((tmp_path / "full").exists)
    size = grows.stat().st_size
    (tmp_path / "others").write_text("may write")
    guard.heal(data_dir, fault)
    eventually(lambda: grows.stat().st_size > size and not (tmp_path / "full").exists())


@contextlib.asynccontextmanager
async def echo() -> AsyncIterator[int]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def true(settled: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not settled():
            await asyncio.sleep(0.01)


async def said(port: int, text: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


def listens(port: int) -> bool:
    return not processes.port_is_free(port)


async def test_a_wire_leads_through_is_cut_mended_and_slow(data_dir: DataDir) -> None:
    data_dir.folder(wires.FOLDER)
    async with echo() as there:
        port = wires.lay(data_dir, "control-plane", there)
        relaying = asyncio.create_task(relay.relay(data_dir))
        await true(lambda: listens(port))
        assert await said(port, b"hello\n") == b"hello\n"

        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"open\n")
        assert await reader.readline() == b"open\n"
        mark = wires.fault_path(data_dir, "control-plane")
        mark.write_text('{"cut": true}')
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""  # what was open breaks
        await true(lambda: not listens(port))
        with pytest.raises(ConnectionError):
            await said(port, b"hello\n")

        mark.write_text('{"delay_s": 0.3}')
        await true(lambda: listens(port))
        begun = time.monotonic()
        assert await said(port, b"one\ntwo\n") == b"one\ntwo\n"
        assert time.monotonic() - begun >= 0.6  # there and back

        mark.unlink()
        await true(lambda: wires.state(data_dir, "control-plane") == wires.State())
        relaying.cancel()


def test_wires_are_laid_only_where_faults_are_allowed(data_dir: DataDir) -> None:
    port = processes.free_port()
    commands = {"web": "serve"}
    plain = {"WEB_PORT": str(port)}
    assert wires.prepare(data_dir, commands, plain) == (commands, plain | {wires.PORT: str(port)})
    assert wires.lay(data_dir, "engine-1", port) == port
    with pytest.raises(Refused, match="BERTH_FAULTS=allowed"):
        wires.fault_path(data_dir, "control-plane")

    run, environment = wires.prepare(data_dir, commands, plain | {"BERTH_FAULTS": "allowed"})
    assert run.keys() == {"web", "wires"}
    (wire,) = wires.listed(data_dir)
    assert (wire.name, wire.to, str(wire.listen)) == ("control-plane", port, environment[wires.PORT])
    assert wires.lay(data_dir, "engine-1", port) != port
    wires.remove(data_dir, "engine-1")
    assert [each.name for each in wires.listed(data_dir)] == ["control-plane"]


def test_a_signal_that_stops_is_no_end(data_dir: DataDir) -> None:
    """What is paused still counts as running, so that keepers and watchdogs leave it to its fate."""
    record = processes.spawn("redis", SLEEPS, data_dir=data_dir)
    processes.send(record, signal.SIGSTOP)
    eventually(lambda: state(psutil.Process(record.pid)) == "T")
    assert processes.find(data_dir, "redis") == record
