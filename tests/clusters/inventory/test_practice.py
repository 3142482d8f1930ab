"""Faults by command: refused unless allowed, told to the audit, taken back."""

from __future__ import annotations

import dataclasses
import io
import resource
import signal
import sys
import time

import psutil
import pytest
from django.core.management import CommandError, call_command

from clusters.inventory import registration, services
from embedded import processes, proctable
from embedded.datadir import DataDir
from embedded.faults import journal
from portal import checks
from tests.clusters.inventory.there import admitted, kubeconfig
from tests.embedded.conftest import eventually
from tests.factories import audit_entries
from tests.fakes.kube_api import FakeKube

SLEEPS = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture
def data_dir(tmp_path, settings):
    settings.FAULTS_ALLOWED = True
    settings.DATA_DIR = tmp_path / "data"
    folder = DataDir(settings.DATA_DIR)
    yield folder
    processes.reap_orphans(folder)


def fault(*words: str) -> str:
    told = io.StringIO()
    call_command("fault", *words, stdout=told)
    return told.getvalue()


def entries() -> list[tuple[str, dict]]:
    return [(each.action, each.facts) for each in audit_entries(action__startswith="fault.")]


@pytest.fixture
def beat(data_dir):
    return psutil.Process(processes.spawn("beat", SLEEPS, data_dir=data_dir).pid)


@pytest.mark.django_db
class TestCommand:
    def test_it_is_refused_unless_faults_are_allowed(self, data_dir, beat, settings):
        settings.FAULTS_ALLOWED = False
        with pytest.raises(CommandError, match="BERTH_FAULTS=allowed"):
            fault("kill", "beat")
        assert proctable.running(beat)
        assert entries() == []

    def test_a_kill_is_told_and_done(self, data_dir, beat):
        assert "kill -9 1 process(es)" in fault("kill", "beat")
        eventually(lambda: not proctable.running(beat))
        ((action, facts),) = entries()
        assert action == "fault.begin"
        assert (facts["kind"], facts["target"]) == ("kill", "beat")
        assert facts["account"]

    def test_a_pause_lasts_and_is_taken_back_and_both_are_told(self, data_dir, beat):
        told = fault("pause", "beat", "--for", "300ms")
        assert "stop 1 process(es)" in told
        assert "taken back" in told
        eventually(lambda: proctable.stat(beat.pid)[0] == "S")
        assert [action for action, _ in entries()] == ["fault.begin", "fault.end"]
        assert journal.listed(data_dir) == []

    def test_what_is_left_behind_is_listed_and_healed(self, data_dir, beat):
        beat.send_signal(signal.SIGSTOP)
        found = proctable.stat(beat.pid)
        step = {"do": "continue", "pid": beat.pid, "start_time": found[1]}
        left = journal.opened(data_dir, kind="pause", target="beat", until=time.time(), undo=[step])
        assert f"{left.id}  pause beat" in fault("list")
        assert "taken back" in fault("heal", left.id)
        eventually(lambda: proctable.stat(beat.pid)[0] == "S")
        assert fault("list") == ""
        with pytest.raises(CommandError, match="no fault gone"):
            fault("heal", "gone")

    def test_a_second_fault_on_the_same_is_refused_while_the_first_lasts(self, data_dir):
        """It would note the first as what to put back."""
        gateway = psutil.Process(processes.spawn("gateway", SLEEPS, data_dir=data_dir).pid)
        started = proctable.stat(gateway.pid)[1]
        soft, hard = resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE)
        step = {"do": "file-size", "pid": gateway.pid, "start_time": started, "soft": soft, "hard": hard}
        first = journal.opened(data_dir, kind="fill-disk", target="gateway", until=time.time(), undo=[step])
        resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (0, hard))
        with pytest.raises(CommandError, match=f"manage.py fault heal {first.id}"):
            fault("fill-disk", "gateway", "--for", "300ms")
        assert entries() == []
        fault("heal", first.id)
        fault("fill-disk", "gateway", "--for", "300ms")
        assert resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE) == (soft, hard)

    @pytest.mark.parametrize(
        ("words", "why"),
        [
            (["kill", "mainframe"], "there are web, worker"),
            (["kill"], "Say what is to be broken"),
            (["fill-disk", "postgres"], "Only a gateway's disk"),
            (["cut", "control-plane"], "Start Berth with BERTH_FAULTS=allowed"),
            (["kill", "engine:docs"], "No engine of docs runs"),
            (["gpu-fault", "engine:docs"], "name it as engine:ENDPOINT"),
            (["region-lost", "atlantis"], "No cluster stands in a region 'atlantis'"),
            (["kill", "engine", "--cluster", "gone"], "There is no cluster gone"),
            (["pause", "beat", "--for", "2h"], "an hour at most"),
        ],
    )
    def test_what_cannot_be_done_is_refused_with_what_to_do(self, data_dir, words, why):
        with pytest.raises(CommandError, match=why):
            fault(*words)
        assert entries() == []

    def test_an_administrator_of_another_cluster_is_refused(self, data_dir, region, tmp_path):
        file = tmp_path / "config"
        with FakeKube() as kube:
            registration.kubernetes_cluster_register(
                name="k8s-a", region=region, credentials=admitted(kube), runtimes=["triton-llmapi"]
            )
            other = dataclasses.replace(kube.admin, server="https://production.example")
            for words in (["kill", "engine", "--cluster", "k8s-a"], ["region-lost", "eu-de-1"]):
                file.write_text(kubeconfig(other))
                with pytest.raises(CommandError, match="leads to https://production"):
                    fault(*words, "--kubeconfig", str(file))
            assert entries() == []
            file.write_text(kubeconfig(dataclasses.replace(kube.admin, server=f"{kube.admin.server}/")))
            with pytest.raises(CommandError, match="No pod of engine"):  # it is asked
                fault("kill", "engine", "--cluster", "k8s-a", "--kubeconfig", str(file))

    def test_a_lost_region_takes_its_local_clusters_for_as_long(self, data_dir, region):
        services.cluster_register(
            name="local-a", region=region, driver="local", runtimes=["triton-python"], declared=True
        )
        lost = data_dir.path / "clusters" / "local-a" / "marks" / "lost"
        told = fault("region-lost", "eu-de-1", "--for", "300ms")
        assert "region eu-de-1 is lost: cluster local-a" in told
        assert not lost.exists()
        assert [action for action, _ in entries()] == ["fault.begin", "fault.end"]


def test_a_production_installation_that_allows_faults_is_warned(settings):
    settings.PRODUCTION, settings.FAULTS_ALLOWED = True, True
    (found,) = checks.faults_warning()
    assert found.id == "berth.faults"
    assert "Unset it" in found.hint
    settings.FAULTS_ALLOWED = False
    assert checks.faults_warning() == []
