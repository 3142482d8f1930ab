"""The runner as people use it: `python -m embedded`, real services, small stand-ins for the processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedded import environment, processes, services, up
from embedded.datadir import DataDir, read_json
from embedded.faults import wires
from tests.embedded.conftest import STUBBORN, carriers, eventually, is_running, pid_in

ROOT = Path(__file__).resolve().parents[2]


class Berth:
    """One data folder with a Procfile of a web process and a stubborn tree."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data_dir = DataDir(folder / "data")
        self.started: list[subprocess.Popen[str]] = []
        self.procfile = folder / "Procfile"
        stubborn = folder / "stubborn.py"
        stubborn.write_text(STUBBORN)
        self.procfile.write_text(
            f"web: echo $$ > {folder}/web.pid; exec python3 -m http.server $WEB_PORT --bind 127.0.0.1\n"
            f"models: exec python3 {stubborn} {folder}\n"
        )

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "embedded", "--data-dir", str(self.data_dir.path), *words]

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words),
            cwd=ROOT,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        # The processes run in the Procfile's folder, where the package itself is not.
        with (self.folder / "terminal").open("a") as terminal:
            runner = subprocess.Popen(
                self.command("up", "--procfile", str(self.procfile), "--grace", "0.5", *words),
                cwd=ROOT,
                env=self.environment(),
                stdout=terminal,
                stderr=subprocess.STDOUT,
                text=True,
            )
        self.started.append(runner)
        return runner

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT)}

    def terminal(self) -> str:
        return (self.folder / "terminal").read_text()

    def web_url(self) -> str | None:
        return read_json(self.data_dir.file("up.json"), {}).get("urls", {}).get("web")

    def serves(self) -> bool:
        url = self.web_url()
        if url is None:
            return False
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def left_over(self) -> list[str]:
        shared = [name for name in os.listdir("/dev/shm") if self.data_dir.instance in name]
        kept = [path.name for path in self.data_dir.run.iterdir()]
        kept += [name for name in ("up.json", "services.json") if self.data_dir.file(name).exists()]
        return [*map(str, carriers(self.data_dir)), *shared, *kept]


@pytest.fixture
def berth(tmp_path: Path) -> Iterator[Berth]:
    berth = Berth(tmp_path)
    yield berth
    for runner in berth.started:
        runner.kill()
        runner.wait()
    processes.reap_orphans(berth.data_dir)


def test_up_keeps_everything_running_and_ctrl_c_leaves_nothing(berth: Berth) -> None:
    runner = berth.start(
        "--prepare", f"{sys.executable} -c \"import os; print('as', os.environ['DATABASE_URL'])\""
    )
    eventually(berth.serves)
    stubborn = pid_in(berth.folder / "child.pid")
    running = services.current(berth.data_dir)
    assert running is not None
    assert f"as {running.database_url}\n" in (berth.data_dir.logs / "prepare.log").read_text()

    second = berth.call("up", "--procfile", str(berth.procfile))
    assert second.returncode == 3
    assert f"already running as process {runner.pid}" in second.stdout
    assert str(berth.web_url()) in second.stdout
    status = berth.call("status")
    assert status.returncode == 0
    assert f"process {runner.pid}" in status.stdout
    assert f"postgres (pid {running.pids[0]})" in status.stdout

    web = pid_in(berth.folder / "web.pid")
    os.kill(web, signal.SIGKILL)
    eventually(lambda: berth.serves() and pid_in(berth.folder / "web.pid") != web)
    assert "GET / " in (berth.data_dir.logs / "web.log").read_text()
    assert "| 127.0.0.1 - - " in berth.terminal()

    runner.send_signal(signal.SIGINT)
    assert runner.wait(timeout=60) == 0, berth.terminal()
    assert not is_running(stubborn)
    assert berth.left_over() == []
    assert berth.call("status").returncode == 1


def test_a_start_after_kill_9_reaps_the_orphans_and_adopts_the_services(berth: Berth) -> None:
    first = berth.start()
    eventually(berth.serves)
    orphan = pid_in(berth.folder / "child.pid")
    before, url = services.current(berth.data_dir), berth.web_url()
    first.kill()
    first.wait()
    Path(f"/dev/shm/berth_{berth.data_dir.instance}_server_region").write_bytes(b"\0")
    assert is_running(orphan)
    assert up.status(berth.data_dir).pid is None
    (berth.folder / "child.pid").unlink()

    second = berth.start("--quiet")
    eventually(lambda: (berth.folder / "child.pid").exists() and berth.serves())
    assert not is_running(orphan)
    assert services.current(berth.data_dir) == before
    assert berth.web_url() == url
    stopped = berth.call("stop")
    assert stopped.stdout == "stopped\n"
    assert second.wait(timeout=60) == 0
    assert berth.left_over() == []
    assert berth.call("stop").stdout == "nothing was running\n"


def test_a_failing_preparation_stops_everything_and_shows_its_end(berth: Berth) -> None:
    failed = berth.call(
        *("up", "--procfile", str(berth.procfile)),
        *("--prepare", f"{sys.executable} -c 'raise SystemExit(chr(66)*9)'"),
    )
    assert failed.returncode == 1
    assert "failed with status 1" in failed.stderr
    assert "BBBBBBBBB" in failed.stderr
    assert berth.left_over() == []


def test_what_on_ready_returns_ends_the_run(berth: Berth) -> None:
    berth.procfile.write_text("sleeper: sleep 600\n")
    program = (
        "import pathlib, sys\n"
        "from embedded import datadir, up\n"
        "def ready(environment):\n"
        "    assert environment['BERTH_GATEWAY_TOKEN'] and environment['GATEWAY_PORT']\n"
        "    assert up.environment(folder)['DATABASE_URL'] == environment['DATABASE_URL']\n"
        "    return 5\n"
        "folder = datadir.DataDir(sys.argv[1])\n"
        "sys.exit(up.run(folder, procfile=pathlib.Path(sys.argv[2]), on_ready=ready, quiet=True))\n"
    )
    argv = [sys.executable, "-c", program, str(berth.data_dir.path), str(berth.procfile)]
    done = subprocess.run(argv, cwd=ROOT, env=berth.environment(), timeout=60, check=False)
    assert done.returncode == 5
    assert berth.left_over() == []


def test_secrets_and_ports_stay_the_same_and_are_closed_to_others(tmp_path: Path) -> None:
    folder = DataDir(tmp_path / "data")
    first = environment.kept_secrets(folder)
    assert set(first) == {
        "DJANGO_SECRET_KEY", "BERTH_KEY_PEPPERS", "BERTH_SEALING_KEYS", "BERTH_GATEWAY_TOKEN",
        "BERTH_GATEWAY_FILES_KEYS", "BERTH_SIGNING_KEYS",
    }  # fmt: skip
    assert environment.kept_secrets(folder) == first
    assert first["BERTH_SEALING_KEYS"] != first["BERTH_KEY_PEPPERS"]
    assert folder.file("secrets.json").stat().st_mode & 0o777 == 0o600
    ports = environment.choose_ports(folder)
    assert environment.choose_ports(folder) == ports
    assert environment.folder_variables(folder)["WEB_PORT"] == str(ports["WEB_PORT"])


def test_a_folder_of_an_earlier_version_gets_the_secrets_that_it_lacks(tmp_path: Path) -> None:
    folder = DataDir(tmp_path / "data")
    first = environment.kept_secrets(folder)
    older = {name: value for name, value in first.items() if name != "BERTH_SEALING_KEYS"}
    folder.file("secrets.json").write_text(json.dumps(older))
    later = environment.kept_secrets(folder)
    assert {name: later[name] for name in older} == older
    assert later["BERTH_SEALING_KEYS"] not in ("", first["BERTH_SEALING_KEYS"])
    assert environment.kept_secrets(folder) == later


@pytest.mark.parametrize("name", ["gateway", "models"])
def test_the_keys_that_seal_secrets_stay_with_the_control_plane(name: str) -> None:
    (line,) = [each for each in (ROOT / "Procfile").read_text().splitlines() if each.startswith(f"{name}:")]
    command, _, _ = line.partition(" python ")
    shown = subprocess.run(
        [*("sh", "-c", f"{command.removeprefix(name + ': ')} env")],
        env=os.environ | {"BERTH_SEALING_KEYS": "1:aa", "BERTH_VAULT_TOKEN": "t", "BERTH_KEY_PEPPERS": "1:bb"},
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "BERTH_KEY_PEPPERS=1:bb" in shown
    assert "BERTH_SEALING_KEYS" not in shown
    assert "BERTH_VAULT_TOKEN" not in shown


def test_where_faults_are_allowed_wires_lead_through_a_relay_that_can_cut_them(berth: Berth) -> None:
    berth.start("--env", "BERTH_FAULTS=allowed")
    eventually(berth.serves)
    (wire,) = wires.listed(berth.data_dir)
    assert wire.name == wires.CONTROL_PLANE

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{wire.listen}", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    eventually(answers)
    mark = wires.fault_path(berth.data_dir, wire.name)
    mark.write_text('{"cut": true}')
    eventually(lambda: not answers())
    assert berth.serves()  # by its own port
    mark.unlink()
    eventually(answers)
    assert berth.call("stop").returncode == 0
    assert berth.left_over() == []
