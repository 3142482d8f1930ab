"""Vault's HTTP API as far as sealing needs it: logging in, asking, trying again, and saying why there was no answer."""

from __future__ import annotations

import dataclasses
import random
import ssl
import threading
import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from django.core.exceptions import ImproperlyConfigured

from tenants.sealing.errors import KeysAway

_AUTH: Final = ("token", "approle", "kubernetes")
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_TRIES: Final = 3
_PAUSE_S: Final = 0.1
#: A token from a file is read again after so long: agents renew it.
_FILE_S: Final = 30.0
_LONGEST_TOLD: Final = 300


class VaultRefusal(KeysAway):
    """Vault answered with an error: its status, what it told, and the data that came with it."""

    def __init__(self, status: int, told: str, data: dict[str, Any] | None = None) -> None:
        super().__init__(f"Vault refuses: {told} (status {status}).")
        self.status, self.told, self.data = status, told, data or {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class VaultSettings:
    """Where Vault is and how Berth is let in; see docs/operations.md for the variables.

    Raises:
        ImproperlyConfigured: something is missing or cannot be; the message names the variable.
    """

    address: str = ""
    namespace: str = ""
    ca_file: str = ""
    mount: str = "transit"
    key: str = "berth"
    auth: str = "token"
    auth_mount: str = ""
    token: str = dataclasses.field(default="", repr=False)
    token_file: str = ""
    role: str = ""
    secret_id_file: str = ""
    jwt_file: str = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    timeout_s: float = 5.0

    def __post_init__(self) -> None:
        if not self.address:
            return
        parts = urlsplit(self.address)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
            raise ImproperlyConfigured(
                "BERTH_VAULT_ADDR must begin with https://; plain http only to this machine."
            )
        if self.auth not in _AUTH:
            raise ImproperlyConfigured(
                f"BERTH_VAULT_AUTH must be one of {', '.join(_AUTH)}; it is {self.auth!r}."
            )
        missing = {
            "token": "" if self.token or self.token_file else "BERTH_VAULT_TOKEN_FILE",
            "approle": ""
            if self.role and self.secret_id_file
            else "BERTH_VAULT_ROLE and BERTH_VAULT_SECRET_ID_FILE",
            "kubernetes": "" if self.role else "BERTH_VAULT_ROLE",
        }[self.auth]
        if missing:
            raise ImproperlyConfigured(f"Set {missing}: BERTH_VAULT_AUTH is {self.auth}.")


class VaultClient:
    """Asks one Vault. Thread-safe. What failed on the way is tried again until ``timeout_s`` are over."""

    def __init__(self, given: VaultSettings) -> None:
        self._given = given
        headers = {"X-Vault-Request": "true"}
        if given.namespace:
            headers["X-Vault-Namespace"] = given.namespace
        try:
            verify = ssl.create_default_context(cafile=given.ca_file or None)
        except (OSError, ssl.SSLError) as error:
            raise ImproperlyConfigured(f"BERTH_VAULT_CA_FILE cannot be used: {error}") from error
        self._http = httpx.Client(
            base_url=given.address.rstrip("/"),
            headers=headers,
            verify=verify,
            timeout=given.timeout_s,
            follow_redirects=False,
            trust_env=False,
        )
        self._lock = threading.Lock()
        self._token, self._until = "", 0.0

    def get(self, path: str) -> dict[str, Any]:
        """Read; gives the answer's ``data``.

        Raises:
            KeysAway: there was no answer.
            VaultRefusal: it was an error.
        """
        return self._asked("GET", path, None)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Ask for something that may be asked twice; gives the answer's ``data``.

        Raises:
            KeysAway: there was no answer.
            VaultRefusal: it was an error.
        """
        return self._asked("POST", path, body)

    def _asked(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        until = time.monotonic() + self._given.timeout_s
        token = self._login(until)
        try:
            return self._send(method, path, body, token, until).get("data") or {}
        except VaultRefusal as refusal:
            if refusal.status != 403:
                raise
            fresh = self._login(until, instead_of=token)  # the token may have ended, or been taken back
            if fresh == token:
                raise
            return self._send(method, path, body, fresh, until).get("data") or {}

    def _send(
        self, method: str, path: str, body: dict[str, Any] | None, token: str, until: float
    ) -> dict[str, Any]:
        headers = {"X-Vault-Token": token} if token else {}
        for attempt in range(1, _TRIES + 1):
            try:
                return self._once(method, path, body, headers, until)
            except KeysAway as error:
                again = not isinstance(error, VaultRefusal) or error.status == 429 or error.status >= 500
                pause = _PAUSE_S * 4 ** (attempt - 1) * random.uniform(0.5, 1)  # noqa: S311 -- spreads, hides nothing
                if not again or attempt == _TRIES or time.monotonic() + pause >= until:
                    raise
                time.sleep(pause)
        raise AssertionError("unreachable")

    def _once(
        self, method: str, path: str, body: dict[str, Any] | None, headers: dict[str, str], until: float
    ) -> dict[str, Any]:
        left = max(0.1, until - time.monotonic())
        try:
            answer = self._http.request(method, f"/v1/{path}", json=body, headers=headers, timeout=left)
        except httpx.TimeoutException as error:
            raise KeysAway(
                f"Vault does not answer: nothing came within {self._given.timeout_s:g} s."
            ) from error
        except httpx.HTTPError as error:
            raise KeysAway(f"Vault does not answer: {_short(str(error) or type(error).__name__)}.") from error
        if 300 <= answer.status_code < 400:
            raise KeysAway(
                "Vault does not answer: it sends to another address, which is not followed; "
                "set BERTH_VAULT_ADDR to its active node or its load balancer."
            )
        try:
            document = answer.json() if answer.content else {}
        except ValueError:
            document = {}
        if not isinstance(document, dict):
            document = {}
        if answer.is_success:
            return document
        told = "; ".join(map(str, document.get("errors") or [])) or f"status {answer.status_code}"
        if answer.status_code == 503:
            told = f"it is sealed or in maintenance: {told}"
        raise VaultRefusal(answer.status_code, _short(told), document.get("data"))

    def _login(self, until: float, *, instead_of: str | None = None) -> str:
        """Give a token that should do; one other than ``instead_of`` where a new one can be had."""
        with self._lock:
            if time.monotonic() >= self._until or self._token == instead_of:
                self._token, life_s = self._new_token(until)
                self._until = time.monotonic() + life_s
            return self._token

    def _new_token(self, until: float) -> tuple[str, float]:
        given = self._given
        if given.auth == "token":
            return (_file(given.token_file), _FILE_S) if given.token_file else (given.token, _FILE_S)
        if given.auth == "approle":
            body = {"role_id": given.role, "secret_id": _file(given.secret_id_file)}
        else:
            body = {"role": given.role, "jwt": _file(given.jwt_file)}
        path = f"auth/{given.auth_mount or given.auth}/login"
        try:
            answer = self._send("POST", path, body, "", until).get("auth") or {}
        except VaultRefusal as refusal:
            raise KeysAway(
                f"Vault lets Berth in no more: {refusal.told} (status {refusal.status})."
            ) from refusal
        if not answer.get("client_token"):
            raise KeysAway("Vault lets Berth in, but gives no token.")
        life_s = float(answer.get("lease_duration") or 0)
        return str(answer["client_token"]), life_s * 2 / 3 if life_s else 3600.0


def _file(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise KeysAway(f"What Berth logs in to Vault with cannot be read: {error}") from error


def _short(text: str) -> str:
    return " ".join(text.split())[:_LONGEST_TOLD]
