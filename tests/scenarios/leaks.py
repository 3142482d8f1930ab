"""Looking for secrets wherever Berth writes: files, the database, the queues, what it answers and shows of itself."""

from __future__ import annotations

import base64
import binascii
import re
import socket
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import psutil
import psycopg
from psycopg import sql

from embedded.datadir import DataDir
from embedded.postgres import Postgres
from tenants import secret_keys

_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{24,}={0,2}")
_HEX = re.compile(rb"(?:[0-9a-f]{2}){16,}")
_KEY = re.compile(rb"berth_[0-9A-Za-z]{42}")
_DEEPEST = 2


def forms(secret: str) -> set[bytes]:
    """Give the ways in which a secret may be written."""
    raw = secret.encode()
    return {
        raw,
        quote(secret).encode(),
        quote(secret, safe="").encode(),
        raw.hex().encode(),
        base64.b64encode(raw),
    }


def unfolded(data: bytes, depth: int = _DEEPEST) -> Iterator[bytes]:
    """Give data, and what is in it as base64 or hex, as deep as that: tasks and columns of bytes are."""
    yield data
    if not depth:
        return
    for found in _HEX.finditer(data):
        yield from unfolded(bytes.fromhex(found[0].decode()), depth - 1)
    for found in _BASE64.finditer(data):
        text = found[0].rstrip(b"=")
        try:
            decoded = base64.b64decode(
                text.translate(bytes.maketrans(b"-_", b"+/")) + b"=" * (-len(text) % 4)
            )
        except binascii.Error:
            continue
        yield from unfolded(decoded, depth - 1)


def found_in(data: bytes, secrets: dict[str, str]) -> set[str]:
    """Name what of ``secrets`` is in ``data``, and say so of every well-formed key, whosever it is."""
    told = set()
    for part in unfolded(data):
        told |= {name for name, secret in secrets.items() if any(form in part for form in forms(secret))}
        if any(secret_keys.well_formed(key.decode()) for key in _KEY.findall(part)):
            told.add("a well-formed key")
    return told


def tables(data_dir: DataDir) -> Iterator[tuple[str, bytes]]:
    """Give every table of the database with all its rows, read by the superuser, whom no policy binds."""
    with psycopg.connect(Postgres(data_dir).superuser_url()) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE c.relkind IN ('r', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2"
        )
        for schema, name in cursor.fetchall():
            with cursor.copy(sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(schema, name))) as copy:
                yield name, b"".join(copy)


def files(folder: Path, *, besides: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Give every file below a folder but what lies under one of the names."""
    left_out = set(besides)
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if name.parts[0] in left_out or not path.is_file() or path.is_symlink():
            continue
        try:
            yield str(name), path.read_bytes()
        except OSError:  # gone meanwhile, or a process's own
            continue


def command_lines(instance: str) -> Iterator[tuple[str, bytes]]:
    """Give what anybody on the machine sees of the running processes."""
    for process in psutil.process_iter():
        try:
            if process.environ().get("BERTH_INSTANCE") == instance:
                yield f"command line of {process.name()}", "\n".join(process.cmdline()).encode()
        except psutil.Error:
            continue


class Queues(threading.Thread):
    """Everything that is said to Redis, task arguments among it, from the start of the block to its end."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname or "", parts.port or 6379), timeout=10)
        if parts.password:
            names = [parts.username] if parts.username else []
            words = [b"AUTH", *(unquote(each).encode() for each in [*names, parts.password])]
            said = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
            self._socket.sendall(b"*%d\r\n" % len(words) + said)
        self._socket.sendall(b"MONITOR\r\n")
        self._socket.settimeout(None)
        self._heard: list[bytes] = []

    def __enter__(self) -> Queues:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self.join(10)
        self._socket.close()

    def run(self) -> None:
        while True:
            try:
                part = self._socket.recv(65_536)
            except OSError:
                return
            if not part:
                return
            self._heard.append(part)

    @property
    def heard(self) -> bytes:
        """What was said, as Redis writes it: quotes within are escaped."""
        return b"".join(self._heard).replace(b'\\"', b'"')
