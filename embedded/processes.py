"""Child processes that leave a record, so that whoever starts next can find and reap them.

Every child gets BERTH_INSTANCE (whose data folder it belongs to) and BERTH_PROCESS (its name) in
its environment. Both are inherited, so that a grandchild is recognised by /proc/<pid>/environ even
after its parent died and it left every process group: Triton's python stubs are such, and they
ignore SIGTERM once their server has crashed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import signal
import socket
import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import psutil

from embedded import proctable
from embedded.datadir import DataDir, read_json, write_json
from embedded.errors import EmbeddedError

INSTANCE = "BERTH_INSTANCE"
PROCESS = "BERTH_PROCESS"
LOG_LIMIT_BYTES = 10_000_000

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# Our own children by pid, kept so that they are waited for and do not stay as zombies.
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProcessRecord:
    """One started process. ``start_time`` (kernel ticks since boot) and ``boot_id`` tell it from a
    later process that was given the same pid."""

    name: str
    pid: int
    start_time: int
    boot_id: str
    instance: str
    path: str  # where the record is kept


def spawn(
    name: str,
    argv: Sequence[str | os.PathLike[str]],
    *,
    data_dir: DataDir,
    env: Mapping[str, str] | None = None,
    log_path: Path | None = None,
    cwd: Path | None = None,
) -> ProcessRecord:
    """Start ``argv`` in a session of its own and record it in ``run/<name>.json``.

    ``env`` is the child's whole environment (the caller's own when None), to which INSTANCE and
    PROCESS are added. Output goes to ``log_path``, by default ``logs/<name>.log``, which is moved
    aside to ``*.1`` once it is over LOG_LIMIT_BYTES.

    Raises:
        EmbeddedError: ``name`` is not a plain name, or the program could not be started.
    """
    if not _NAME.fullmatch(name):
        raise EmbeddedError(f"process name {name!r} is not of letters, digits, '.', '_' and '-'")
    _collect_children()
    environment = dict(os.environ if env is None else env)
    environment |= {INSTANCE: data_dir.instance, PROCESS: name}
    path = log_path or data_dir.logs / f"{name}.log"
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > LOG_LIMIT_BYTES:
            path.replace(path.with_name(path.name + ".1"))
    with open(path, "ab") as log:
        try:
            child = subprocess.Popen(
                [os.fspath(part) for part in argv],
                env=environment,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise EmbeddedError(f"could not start {name} ({os.fspath(argv[0])}): {error}") from error
    _children[child.pid] = child
    # The child cannot be reaped before we wait for it, so its start time is there even if it died.
    started = proctable.stat(child.pid)
    assert started is not None
    record = ProcessRecord(
        name=name,
        pid=child.pid,
        start_time=started[1],
        boot_id=proctable.boot_id(),
        instance=data_dir.instance,
        path=str(record_path(data_dir, name)),
    )
    write_json(Path(record.path), dataclasses.asdict(record))
    return record


def this_process(name: str, *, data_dir: DataDir) -> ProcessRecord:
    """Give a record of the calling process, without keeping it."""
    found = proctable.stat(os.getpid())
    assert found is not None
    return ProcessRecord(
        name=name,
        pid=os.getpid(),
        start_time=found[1],
        boot_id=proctable.boot_id(),
        instance=data_dir.instance,
        path=str(record_path(data_dir, name)),
    )


def record_path(data_dir: DataDir, name: str) -> Path:
    """Say where the record of ``name`` is kept."""
    return data_dir.run / f"{name}.json"


def read_record(path: Path) -> ProcessRecord | None:
    """Read one record; None when it is missing or not a record."""
    kept = read_json(path)
    try:
        return ProcessRecord(**kept)
    except TypeError:
        return None


def find(data_dir: DataDir, name: str) -> ProcessRecord | None:
    """Give the record of ``name`` if that very process is alive."""
    record = read_record(record_path(data_dir, name))
    return record if record is not None and alive(record) else None


def records(data_dir: DataDir) -> list[ProcessRecord]:
    """List every readable record of the folder, dead ones too, by name."""
    found = (read_record(path) for path in sorted(data_dir.run.glob("*.json")))
    return [record for record in found if record is not None]


def alive(record: ProcessRecord) -> bool:
    """Say whether this very process runs: a zombie does not, nor does another one with its pid."""
    child = _children.get(record.pid)
    if child is not None and child.poll() is not None:
        _children.pop(record.pid, None)
    found = proctable.stat(record.pid)
    return (
        found is not None
        and found[0] not in "ZX"
        and found[1] == record.start_time
        and record.boot_id == proctable.boot_id()
    )


def send(record: ProcessRecord, signum: signal.Signals) -> bool:
    """Signal the process alone, not its group; False when it is gone already."""
    if not alive(record):
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(record.pid, signum)
    return True


def stop(
    record: ProcessRecord,
    *,
    grace_s: float,
    first_signal: signal.Signals = signal.SIGTERM,
    whole_group: bool = True,
) -> None:
    """End the process and all it started, and remove its record.

    ``first_signal`` goes to the group (or to the process alone); after ``grace_s`` seconds, or once
    the process is gone, what is left of its tree is killed, children in other groups included.

    Raises:
        EmbeddedError: something of it survived SIGKILL.
    """
    tree: dict[int, psutil.Process] = {}
    if alive(record):
        tree = {process.pid: process for process in proctable.descendants(record.pid)}
        with contextlib.suppress(ProcessLookupError):
            if whole_group:
                os.killpg(record.pid, first_signal)
            else:
                os.kill(record.pid, first_signal)
        proctable.wait_until(lambda: not alive(record), grace_s)
        if alive(record):
            tree |= {process.pid: process for process in proctable.descendants(record.pid)}
            tree[record.pid] = psutil.Process(record.pid)
    marks = {INSTANCE: record.instance, PROCESS: record.name}
    protected = proctable.protected()

    def remaining() -> list[psutil.Process]:
        _collect_children()
        marked = [p for p in proctable.marked(marks) if p.pid not in protected]
        return marked + [p for p in tree.values() if proctable.running(p)]

    proctable.kill_all(remaining)
    kept = read_record(Path(record.path))
    if kept is None or (kept.pid, kept.start_time) == (record.pid, record.start_time):
        Path(record.path).unlink(missing_ok=True)


def reap_orphans(data_dir: DataDir, *, keep: Collection[int] = ()) -> list[int]:
    """Kill what an earlier run of this data folder left, and remove its traces.

    Killed is every process that carries this instance in its environment and every recorded one
    with its tree, except the caller, its ancestors, and the pids in ``keep`` with their
    descendants. Shared memory of this instance that nothing kept has mapped goes, and the records
    of dead processes go. Returns the pids that were killed.

    Raises:
        EmbeddedError: something survived SIGKILL.
    """
    protected = proctable.protected(keep)
    recorded = [record for record in records(data_dir) if record.pid not in protected]
    trees = [p for record in recorded if alive(record) for p in proctable.tree(record.pid)]

    def remaining() -> list[psutil.Process]:
        _collect_children()
        found = [
            *proctable.marked({INSTANCE: data_dir.instance}),
            *(p for p in trees if proctable.running(p)),
        ]
        return [process for process in found if process.pid not in protected]

    killed = proctable.kill_all(remaining)
    proctable.remove_shared_memory(f"berth_{data_dir.instance}_", mapped_by=protected)
    for path in data_dir.run.glob("*.json"):
        record = read_record(path)
        if record is None or not alive(record):
            path.unlink(missing_ok=True)
    return killed


def reap_matching(data_dir: DataDir, env_key: str, env_value: str) -> list[int]:
    """Kill this instance's processes that carry ``env_key=env_value``, and their shared memory.

    For the leftovers of one crashed server: shared memory is what `shm_prefix` names for
    ``env_value``. The caller and its ancestors are spared. Returns the pids that were killed.

    Raises:
        EmbeddedError: something survived SIGKILL.
    """
    marks = {INSTANCE: data_dir.instance, env_key: env_value}
    protected = proctable.protected()

    def remaining() -> list[psutil.Process]:
        _collect_children()
        return [process for process in proctable.marked(marks) if process.pid not in protected]

    killed = proctable.kill_all(remaining)
    proctable.remove_shared_memory(shm_prefix(data_dir, env_value), mapped_by=())
    return killed


def shm_prefix(data_dir: DataDir, server_id: str) -> str:
    """Give the name prefix that one server's regions in /dev/shm must carry to be reaped."""
    return f"berth_{data_dir.instance}_{server_id}_"


def log_tail(path: Path, lines: int = 20) -> str:
    """Give the last lines of a log, empty when there is none."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - 16_384))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""


def free_port() -> int:
    """Find a loopback TCP port that nothing listens on now."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Find ``count`` different loopback TCP ports that nothing listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def port_is_free(port: int) -> bool:
    """Say whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _collect_children() -> None:
    for pid, child in list(_children.items()):
        if child.poll() is not None:
            _children.pop(pid, None)
