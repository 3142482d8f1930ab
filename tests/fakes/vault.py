"""A stand-in for Vault's transit engine: real encryption, the real API's paths and JSON, and faults on request."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import http.server
import json
import os
import re
import ssl
import threading
import uuid
from collections.abc import Iterator
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

DENIED = "1 error occurred:\n\t* permission denied\n\n"


@dataclasses.dataclass
class TransitKey:
    """A named key with all its versions, from 1."""

    versions: list[bytes] = dataclasses.field(default_factory=lambda: [os.urandom(32)])
    min_decryption_version: int = 1


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, *errors: str, data: dict[str, Any] | None = None) -> None:
        super().__init__(status, errors)
        self.status, self.errors, self.data = status, list(errors), data


@dataclasses.dataclass
class FakeVault:
    """One Vault. ``calls`` holds method and path of what was asked.

    ``next_errors`` are statuses answered before anything else; ``sealed`` answers 503 to all; ``hold`` keeps
    answers back until it is set; ``drop`` closes connections without an answer.
    """

    url: str = ""
    namespace: str = ""
    mount: str = "transit"
    keys: dict[str, TransitKey] = dataclasses.field(default_factory=dict)
    tokens: set[str] = dataclasses.field(default_factory=lambda: {"root-token"})
    roles: dict[str, str] = dataclasses.field(default_factory=dict)
    lease_s: int = 3600
    sealed: bool = False
    drop: bool = False
    hold: threading.Event | None = None
    redirect: str = ""
    next_errors: list[int] = dataclasses.field(default_factory=list)
    calls: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    bodies: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def rotate(self, name: str) -> None:
        """Make a new version, as ``vault write -f transit/keys/NAME/rotate`` does."""
        self.keys[name].versions.append(os.urandom(32))

    def forget_before(self, name: str, version: int) -> None:
        """Set ``min_decryption_version``."""
        self.keys[name].min_decryption_version = version

    def count(self, part: str) -> int:
        """Say how many requests had ``part`` in their path."""
        return sum(part in path for _, path in self.calls)

    def answer(
        self, method: str, path: str, token: str, namespace: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        """Give the answer's document.

        Raises:
            Refusal: it is an error.
        """
        self.calls.append((method, path))
        self.bodies.append(body)
        if self.next_errors:
            status = self.next_errors.pop(0)
            raise Refusal(status, DENIED if status == 403 else "internal error")
        if self.sealed:
            raise Refusal(503, "Vault is sealed")
        if namespace != self.namespace:
            raise Refusal(404, f'no handler for route "{path}". route entry not found.')
        login = re.fullmatch(r"/v1/auth/([\w/-]+)/login", path)
        if login:
            return self._login(login[1], body)
        if token not in self.tokens:
            raise Refusal(403, DENIED)
        found = re.fullmatch(
            rf"/v1/{re.escape(self.mount)}/([a-z]+)/(?:(plaintext)/)?([\w.-]+)(?:/(rotate))?", path
        )
        if not found:
            raise Refusal(404, f'no handler for route "{path}". route entry not found.')
        verb, _, name, rotate = found.groups()
        if verb == "keys":
            return self._key(method, name, rotate)
        if name not in self.keys:
            raise (
                Refusal(403, DENIED)
                if verb in ("encrypt", "datakey")
                else Refusal(400, "encryption key not found")
            )
        key = self.keys[name]
        if verb == "datakey":
            plain = base64.b64encode(os.urandom(32)).decode()
            return {"data": {"plaintext": plain, **_encrypt(key, {"plaintext": plain})}}
        act = {"encrypt": _encrypt, "decrypt": _decrypt, "rewrap": _rewrap}[verb]
        if "batch_input" not in body:
            return {"data": act(key, body)}
        results: list[dict[str, Any]] = []
        for item in body["batch_input"]:
            try:
                results.append(act(key, item))
            except Refusal as refusal:
                results.append({"error": refusal.errors[0]})
        if any("error" in result for result in results):
            raise Refusal(400, data={"batch_results": results})
        return {"data": {"batch_results": results}}

    def _login(self, mount: str, body: dict[str, Any]) -> dict[str, Any]:
        role, secret = body.get("role_id") or body.get("role"), body.get("secret_id") or body.get("jwt")
        if not role or self.roles.get(f"{mount}:{role}") != secret:
            raise Refusal(400, "invalid role or secret ID")
        token = f"hvs.{uuid.uuid4().hex}"
        self.tokens.add(token)
        return {
            "auth": {
                "client_token": token,
                "lease_duration": self.lease_s,
                "renewable": True,
                "policies": ["berth"],
            }
        }

    def _key(self, method: str, name: str, rotate: str | None) -> dict[str, Any]:
        if name not in self.keys:
            raise Refusal(404)
        if rotate:
            self.rotate(name)
        key = self.keys[name]
        return {
            "data": {
                "name": name,
                "type": "aes256-gcm96",
                "latest_version": len(key.versions),
                "min_decryption_version": key.min_decryption_version,
                "min_encryption_version": 0,
                "keys": {str(number + 1): 1442851412 for number in range(len(key.versions))},
            }
        }


@contextlib.contextmanager
def running_vault(*, tls: ssl.SSLContext | None = None, **options: Any) -> Iterator[FakeVault]:
    """Run a Vault with a key ``berth`` on a free port of this machine."""
    vault = FakeVault(keys={"berth": TransitKey()}, **options)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
            if vault.hold is not None:
                vault.hold.wait(30)
            if vault.drop:
                self.close_connection = True
                return
            if vault.redirect:
                self.send_response(307)
                self.send_header("Location", vault.redirect + self.path)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            status, document = 200, {}
            try:
                document = vault.answer(
                    self.command, self.path, self.headers.get("X-Vault-Token", ""),
                    self.headers.get("X-Vault-Namespace", ""), body,
                )  # fmt: skip
            except Refusal as refusal:
                status, document = refusal.status, {"errors": refusal.errors}
                if refusal.data is not None:
                    document = {"data": refusal.data}
            content = json.dumps({"request_id": str(uuid.uuid4()), **document}).encode()
            with contextlib.suppress(OSError):
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    vault.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield vault
    finally:
        if vault.hold is not None:
            vault.hold.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _encrypt(key: TransitKey, item: dict[str, Any]) -> dict[str, Any]:
    try:
        plain = base64.b64decode(item["plaintext"], validate=True)
    except (KeyError, ValueError):
        raise Refusal(400, "failed to base64-decode plaintext") from None
    version, nonce = len(key.versions), os.urandom(12)
    content = base64.b64encode(nonce + AESGCM(key.versions[-1]).encrypt(nonce, plain, None)).decode()
    return {"ciphertext": f"vault:v{version}:{content}", "key_version": version}


def _decrypt(key: TransitKey, item: dict[str, Any]) -> dict[str, Any]:
    found = re.fullmatch(r"vault:v([0-9]+):(.+)", str(item.get("ciphertext", "")))
    if not found:
        raise Refusal(400, "invalid ciphertext: no prefix")
    version, content = int(found[1]), base64.b64decode(found[2])
    if version < key.min_decryption_version:
        raise Refusal(400, "ciphertext or signature version is disallowed by policy (too old)")
    if not 1 <= version <= len(key.versions):
        raise Refusal(400, "invalid ciphertext: version is too new")
    try:
        plain = AESGCM(key.versions[version - 1]).decrypt(content[:12], content[12:], None)
    except InvalidTag:
        raise Refusal(400, "cipher: message authentication failed") from None
    return {"plaintext": base64.b64encode(plain).decode()}


def _rewrap(key: TransitKey, item: dict[str, Any]) -> dict[str, Any]:
    return _encrypt(key, _decrypt(key, item))
