"""One engine over several nodes: leader, workers and the program in place of ssh, with a stand-in for mpirun."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clusters.triton.runtimes import group

GROUP = Path(group.__file__).parent

#: Does with the agent what mpirun does with ssh: starts its part on every other host, then the first process.
MPIRUN = """#!{python}
import os, subprocess, sys
arguments = sys.argv[1:]
hosts = arguments[arguments.index("--host") + 1].split(",")
agent = arguments[arguments.index("plm_rsh_agent") + 1].split()
parts = [subprocess.Popen([*agent, host.partition(":")[0], "echo", "daemon", "on", host, ";", "exit", "0"])
         for host in hosts[1:]]
assert all(part.wait() == 0 for part in parts)
command = arguments[arguments.index("slot") + 1:]
status = subprocess.run(command).returncode
sys.exit(status)
"""
ENGINE = """
import signal, sys, time
def end(*_):
    print("drained", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("serving", flush=True)
time.sleep(60)
"""


@pytest.fixture
def pods(tmp_path):
    """A worker and a leader that share a group whose pods are all this machine."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    mpirun = tmp_path / "bin" / "mpirun"
    mpirun.parent.mkdir()
    mpirun.write_text(MPIRUN.format(python=sys.executable))
    mpirun.chmod(0o755)
    env = {
        "PATH": f"{mpirun.parent}:{os.environ['PATH']}",
        "GROUP_PORT": str(port),
        "LWS_GROUP_SIZE": "2",
        "LWS_LEADER_ADDRESS": "127.0.0.1",
        "TMPDIR": str(tmp_path),
        "PYTHONUNBUFFERED": "1",
    }
    started: list[subprocess.Popen[str]] = []

    def start(name: str, *arguments: str, **more: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(tmp_path / f"{name}.py"), *arguments]
        process = subprocess.Popen(
            command, env={**env, **more}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        started.append(process)
        return process

    for name in ("leader", "worker", "agent", "engine"):
        text = (GROUP / f"{name}.py").read_text()
        # Names of pods cannot be looked up here; every pod is this machine.
        text = text.replace('f"{name}-{number}{dot}{domain}"', '"127.0.0.1"')
        (tmp_path / f"{name}.py").write_text(text)
    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def engine(folder: Path) -> tuple[str, ...]:
    return (sys.executable, str(folder / "engine.py"), sys.executable, "-c", ENGINE)


def read_until(process: subprocess.Popen[str], text: str) -> str:
    found = ""
    while text not in found:
        line = process.stdout.readline()
        assert line, found
        found += line
    return found


def test_the_leader_waits_for_workers_starts_them_and_drains_its_engine(pods, tmp_path):
    leader = pods("leader", "8", *engine(tmp_path), LWS_LEADER_ADDRESS="pod-0.chat.space")
    read_until(leader, "waiting for 127.0.0.1")
    worker = pods("worker")
    out = read_until(leader, "serving")
    assert "daemon on 127.0.0.1:8" in out
    read_until(worker, "the leader is here")
    worker.send_signal(signal.SIGTERM)  # a group is told to end all at once, and drains first
    time.sleep(0.2)
    assert worker.poll() is None
    leader.send_signal(signal.SIGTERM)
    read_until(leader, "drained")
    assert leader.wait(timeout=20) == 0
    assert worker.wait(timeout=20) == 1


def test_workers_end_when_their_leader_dies(pods, tmp_path):
    worker = pods("worker")
    read_until(worker, "waiting for the leader")
    leader = pods("leader", "1", *engine(tmp_path), LWS_LEADER_ADDRESS="pod-0.chat.space")
    read_until(leader, "serving")
    pid = int((tmp_path / "engine.pid").read_text())
    leader.kill()
    assert worker.wait(timeout=20) == 1
    os.kill(pid, signal.SIGKILL)


def test_the_agent_gives_output_and_status_of_the_other_side(pods, tmp_path):
    worker = pods("worker")
    leader = pods("leader", "1", *engine(tmp_path), LWS_LEADER_ADDRESS="pod-0.chat.space")
    read_until(leader, "serving")
    agent = pods("agent", "-x", "127.0.0.1", "echo", "hello;", "exit", "7")
    assert agent.communicate(timeout=20)[0] == "hello\n"
    assert agent.returncode == 7
    assert worker.poll() is None
    leader.send_signal(signal.SIGTERM)
    assert leader.wait(timeout=20) == 0


def test_workers_run_nothing_for_who_is_not_their_leader(pods, tmp_path):
    worker = pods("worker", LWS_LEADER_ADDRESS="127.0.0.2")
    read_until(worker, "waiting for the leader")
    agent = pods("agent", "127.0.0.1", "touch", str(tmp_path / "done;"), "echo", "hello")
    assert agent.communicate(timeout=20)[0] == ""
    assert agent.returncode == 1
    read_until(worker, "refused 127.0.0.1, which is not the leader")
    assert not (tmp_path / "done").exists()


def test_a_leader_waits_until_its_name_is_known_to_the_workers(pods, tmp_path):
    worker = pods("worker", LWS_LEADER_ADDRESS="127.0.0.2")
    leader = pods("leader", "1", *engine(tmp_path), LWS_LEADER_ADDRESS="pod-0.chat.space")
    read_until(leader, "waiting for 127.0.0.1")
    read_until(worker, "refused 127.0.0.1")
    worker.kill()
    worker.wait()
    pods("worker")
    read_until(leader, "serving")
    leader.send_signal(signal.SIGTERM)
    assert leader.wait(timeout=20) == 0


def test_workers_are_called_as_the_set_calls_their_pods():
    sys.path.insert(0, str(GROUP))
    try:
        import leader
    finally:
        sys.path.remove(str(GROUP))
    assert leader.workers("chat-0.chat.space", 3) == ["chat-0-1.chat.space", "chat-0-2.chat.space"]
