"""The local driver with its real supervisor and real tritonservers."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import pytest

from clusters.drivers.base import Away, GiveUp, TryLater
from clusters.drivers.faults import Kind, Wish
from clusters.drivers.local.engine import EXIT_TIMEOUT_S
from clusters.drivers.local.faults import LocalFaults
from clusters.drivers.local.folder import HEARTBEAT_STALE_S, Heartbeat
from clusters.specs import Phase, Trouble
from embedded import processes
from embedded.faults import wires
from embedded.faults.journal import Fault

from .contract import DriverContract, deleted, observed_ready, until
from .machine import Machine


@pytest.fixture(scope="module")
def machine(tmp_path_factory) -> Iterator[Machine]:
    machine = Machine(tmp_path_factory.mktemp("machine"))
    machine.start()
    try:
        yield machine
    finally:
        machine.stop_for_good()
    assert machine.stubs() == []
    assert machine.shared_memory() == []


class TestLocalDriver(DriverContract):
    @pytest.fixture
    def world(self, machine) -> Machine:
        return machine


class TestFaults:
    """What the supervisor does when processes die, itself included."""

    @pytest.fixture
    def running(self, machine) -> Machine:
        """One replica, kept from test to test."""
        machine.driver.apply(machine.spec("faulty"))
        observed_ready(machine, "faulty", replicas=1)
        return machine

    def test_a_killed_engine_is_replaced_and_leaves_nothing(self, running):
        (before,) = observed_ready(running, "faulty", replicas=1).replicas
        server = running.server_of(before)
        stubs = set(running.stubs())
        regions = {name for name in running.shared_memory() if server.name in name}
        assert regions
        os.kill(server.pid, signal.SIGKILL)

        def replaced():
            (now,) = running.driver.observe("faulty").replicas
            return now if now.phase is Phase.READY and now.replica_id != before.replica_id else None

        after = until(replaced, patience_s=running.patience_s, what="another engine")
        assert after.restarts == 1
        assert after.started_at > before.started_at
        assert running.server_of(after).pid != server.pid
        assert len(running.stubs()) == len(stubs)
        assert not regions & set(running.shared_memory())
        assert httpx.get(f"{after.url}/v2/models/ensemble/ready", timeout=5).status_code == 200

    def test_a_killed_supervisor_is_followed_by_one_that_takes_its_engines_over(self, running):
        before = observed_ready(running, "faulty", replicas=1).replicas
        server = running.server_of(before[0])
        running.stop(signal.SIGKILL)
        running.start()
        assert observed_ready(running, "faulty", replicas=1).replicas == before
        assert running.server_of(before[0]) == server

    def test_an_engine_on_faulty_gpus_ends_and_holds_none_until_they_are_mended(self, running):
        (before,) = observed_ready(running, "faulty", replicas=1).replicas
        faults = LocalFaults(running.data_dir, clusters_of=lambda region: ())
        plan = faults.plan(Wish(kind=Kind.GPU, target="engine:faulty", seconds=60))
        plan.do()

        def failed():
            (now,) = running.driver.observe("faulty").replicas
            return now if now.phase is Phase.FAILED else None

        seen = until(failed, patience_s=running.patience_s, what="its failure")
        assert seen.trouble is Trouble.NODE
        assert "XID 79" in seen.message
        assert not seen.holds_gpus
        assert running.servers() == []
        faults.undo(Fault(id="f", kind="gpu-fault", target="", until=0, undo=plan.undo))
        (after,) = observed_ready(running, "faulty", replicas=1).replicas
        assert after.replica_id != before.replica_id
        assert after.trouble is Trouble.NONE

    def test_gateways_reach_an_engine_by_a_wire_that_can_be_cut_where_wires_are_laid(self, running):
        running.data_dir.folder(wires.FOLDER)
        environment = os.environ | {"BERTH_DATA_DIR": str(running.data_dir.path)}
        with subprocess.Popen([sys.executable, "-m", "embedded.faults.relay"], env=environment) as relay:
            try:
                running.driver.apply(running.spec("wired"))
                (replica,) = observed_ready(running, "wired", replicas=1).replicas

                def answers() -> bool:
                    with contextlib.suppress(httpx.HTTPError):
                        return httpx.get(f"{replica.url}/v2/health/ready", timeout=5).status_code == 200
                    return False

                until(answers, patience_s=running.patience_s, what="its answer by the wire")
                faults = LocalFaults(running.data_dir, clusters_of=lambda region: ())
                plan = faults.plan(Wish(kind=Kind.CUT, target="engine:wired", seconds=60))
                plan.do()
                until(lambda: not answers(), patience_s=running.patience_s, what="the cut")
                assert running.driver.observe("wired").replicas == [replica]  # it runs on
                faults.undo(Fault(id="f", kind="cut", target="", until=0, undo=plan.undo))
                until(answers, patience_s=running.patience_s, what="its answer by the mended wire")
                deleted(running, "wired")
                assert wires.listed(running.data_dir) == []
            finally:
                relay.kill()
                shutil.rmtree(running.data_dir.path / wires.FOLDER)

    def test_a_lost_cluster_does_not_answer_and_its_engines_come_back_with_it(self, running):
        (before,) = observed_ready(running, "faulty", replicas=1).replicas
        faults = LocalFaults(running.data_dir, clusters_of=lambda region: ["test"])
        plan = faults.plan(Wish(kind=Kind.REGION, target="eu-de-1", seconds=60))
        plan.do()
        with pytest.raises(Away, match="does not answer"):
            running.driver.observe("faulty")
        until(lambda: running.servers() == [], patience_s=running.patience_s, what="the end of its engines")
        faults.undo(Fault(id="f", kind="region-lost", target="eu-de-1", until=0, undo=plan.undo))

        def back():
            (now,) = running.driver.observe("faulty").replicas
            return now.phase is Phase.READY and now.replica_id != before.replica_id

        until(back, patience_s=running.patience_s, what="another engine")

    def test_an_engine_that_died_with_its_supervisor_is_replaced(self, running):
        (before,) = observed_ready(running, "faulty", replicas=1).replicas
        server = running.server_of(before)
        running.stop(signal.SIGKILL)
        os.kill(server.pid, signal.SIGKILL)
        running.start()
        (after,) = observed_ready(running, "faulty", replicas=1).replicas
        assert after.replica_id != before.replica_id
        assert len(running.stubs()) == len(running.servers())

    def test_a_stopped_supervisor_stops_its_engines_and_the_next_starts_them(self, running):
        with running.away():
            assert running.servers() == []
            assert running.stubs() == []
            assert running.shared_memory() == []
        observed_ready(running, "faulty", replicas=1)

    def test_what_is_deleted_while_the_supervisor_is_away_ends_when_it_returns(self, running):
        (replica,) = observed_ready(running, "faulty", replicas=1).replicas
        running.stop(signal.SIGKILL)
        Heartbeat(running.data_dir).stop()
        with pytest.raises(TryLater, match="supervisor is not running"):
            running.driver.delete("faulty")
        server = running.server_of(replica)
        running.start()
        deleted(running, "faulty")
        assert not processes.alive(server)

    def test_streams_may_finish_while_an_engine_drains(self, running):
        spec = dataclasses.replace(running.spec("drained"), parameters={"token_delay_ms": "10"})
        running.driver.apply(spec)
        (replica,) = observed_ready(running, "drained", replicas=1).replicas
        request = {"text_input": "What is", "max_tokens": 180, "min_tokens": 180, "stream": True}
        request |= {"return_num_output_tokens": True}
        url = f"{replica.url}/v2/models/ensemble/generate_stream"
        tokens, phases = 0, []
        with httpx.stream("POST", url, json=request, timeout=30) as answer:
            for line in answer.iter_lines():
                if not line:
                    continue
                if not tokens:
                    running.driver.apply(dataclasses.replace(spec, replicas=0))
                tokens += json.loads(line.removeprefix("data: "))["num_output_tokens"]
                phases += [r.phase for r in running.driver.observe("drained").replicas]
        assert tokens == 180
        assert set(phases) == {Phase.READY, Phase.DRAINING}
        observed_ready(running, "drained", replicas=0)

    def test_an_idle_connection_does_not_hold_an_engine(self, running):
        """tritonserver alone would wait for it until its exit timeout, with the GPUs held."""
        running.driver.apply(running.spec("idle"))
        (replica,) = observed_ready(running, "idle", replicas=1).replicas
        with httpx.Client() as client:
            assert client.get(f"{replica.url}/v2/health/ready").status_code == 200
            running.driver.apply(running.spec("idle", replicas=0))
            began = time.monotonic()
            observed_ready(running, "idle", replicas=0)
            assert time.monotonic() - began < EXIT_TIMEOUT_S / 10

    def test_a_second_supervisor_does_not_disturb_the_first(self, running):
        code = (
            "from clusters.drivers.local import supervisor; import sys;"
            "supervisor.LOCK_PATIENCE_S = 0.2; sys.exit(supervisor.main())"
        )
        second = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"BERTH_DATA_DIR": str(running.data_dir.path)},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert second.returncode == 1
        assert "another supervisor works on" in second.stderr
        observed_ready(running, "faulty", replicas=1)


def test_an_engine_that_never_starts_is_given_up_with_its_reason(machine):
    """And comes back once the spec changes."""
    spec = machine.spec("broken")
    machine.driver.apply(dataclasses.replace(spec, replicas=0))
    machine.driver.apply(spec)
    (replica,) = observed_ready(machine, "broken", replicas=1).replicas
    folder = machine.data_dir.path / "clusters" / "test" / "repositories" / "broken"
    (ngrams,) = folder.glob("*/ensemble/1/ngrams.npz")
    ngrams.rename(ngrams.with_suffix(".away"))
    os.kill(machine.server_of(replica).pid, signal.SIGKILL)

    def given_up():
        (replica,) = machine.driver.observe("broken").replicas
        return replica if replica.phase is Phase.FAILED else None

    failed = until(given_up, patience_s=machine.patience_s, what="failure")
    assert "gave up after 5 starts" in failed.message
    assert "No such file or directory" in failed.message
    assert failed.holds_gpus is False
    log = machine.driver.logs("broken", failed.replica_id)
    assert "failed to load 'ensemble'" in log

    ngrams.with_suffix(".away").rename(ngrams)
    machine.driver.apply(dataclasses.replace(spec, labels={"tenant": "t-2"}))
    (repaired,) = observed_ready(machine, "broken", replicas=1).replicas
    assert repaired.replica_id != failed.replica_id
    deleted(machine, "broken")
    assert not folder.exists()


@pytest.mark.parametrize("name", ["", "../up", "a/b", "UPPER", "a" * 101, ".hidden", "ends-"])
def test_names_that_are_no_file_names_are_refused(machine, name):
    with pytest.raises(GiveUp, match="name"):
        machine.driver.apply(machine.spec(name))
    with pytest.raises(GiveUp, match="name"):
        machine.driver.observe(name)
    with pytest.raises(GiveUp, match="replica name"):
        machine.driver.logs("fine", f"../{name}")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": "llama-70b"}, "ships the model"),
        ({"context_tokens": 1_000_000}, "context_tokens must be"),
        ({"replicas": -1}, "replicas must not be negative"),
        ({"parameters": {"env": "x"}}, "not env"),
    ],
)
def test_specs_that_cannot_run_here_say_why(machine, change, says):
    with pytest.raises(GiveUp, match=says):
        machine.driver.apply(dataclasses.replace(machine.spec("wrong"), **change))


def test_a_silent_supervisor_counts_as_away(tmp_path):
    machine = Machine(tmp_path)
    heartbeat = Heartbeat(machine.data_dir)
    heartbeat.beat()
    assert machine.driver.observe("x") is None
    (beat,) = (tmp_path / "clusters").glob("*.heartbeat")
    long_ago = beat.stat().st_mtime - HEARTBEAT_STALE_S - 5
    os.utime(beat, (long_ago, long_ago))
    with pytest.raises(TryLater, match="not been heard of for 15 s"):
        machine.driver.observe("x")


def test_an_unreadable_spec_leaves_the_engines_running(machine):
    machine.driver.apply(machine.spec("garbled"))
    before = observed_ready(machine, "garbled", replicas=1).replicas
    path = machine.data_dir.path / "clusters" / "test" / "desired" / "garbled.json"
    path.write_text("{")
    log = machine.data_dir.path / "supervisor.log"
    until(lambda: "garbled: the spec cannot be read" in log.read_text(), patience_s=10, what="the complaint")
    assert machine.driver.apply(machine.spec("garbled")) is True
    assert observed_ready(machine, "garbled", replicas=1).replicas == before
    deleted(machine, "garbled")


def test_the_driver_and_its_supervisor_do_without_django():
    code = "import sys, clusters.drivers.local.supervisor; print(*(m for m in sys.modules if 'django' in m))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert run.stdout.strip() == ""


def test_reaping_spares_nothing_of_a_folder(tmp_path):
    """The next runner clears engines away that a killed supervisor left and nobody took over."""
    machine = Machine(tmp_path)
    machine.start()
    machine.driver.apply(machine.spec("left"))
    observed_ready(machine, "left", replicas=1)
    machine.stop(signal.SIGKILL)
    assert len(machine.servers()) == 1
    processes.reap_orphans(machine.data_dir)
    assert (machine.servers(), machine.stubs(), machine.shared_memory()) == ([], [], [])
