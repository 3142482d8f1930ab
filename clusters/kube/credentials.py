"""How Berth proves who it is to a cluster: read from a kubeconfig as data, never executed, never from disk."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import yaml  # type: ignore[import-untyped]
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

LONGEST = 1024 * 1024  # bytes of a kubeconfig


class KubeconfigError(ValueError):
    """What is given cannot be used; the message names the field and says what to give in its place."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Credentials:
    """Where a cluster is and how to be let in: a bearer token, or a client certificate with its key (PEM).

    ``ca_data`` is PEM; empty means that the public authorities of this machine are asked.
    ``server_name`` is checked in the certificate in place of the address's name, where they differ.

    Raises:
        KubeconfigError: the address is no https URL, or no (or half a) credential is given, or a PEM is none.
    """

    server: str
    ca_data: str = ""
    token: str = dataclasses.field(default="", repr=False)
    client_certificate: str = ""
    client_key: str = dataclasses.field(default="", repr=False)
    server_name: str = ""

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.server)
            _ = parts.port
        except ValueError as error:
            raise KubeconfigError(f"server: {self.server!r} is no address") from error
        if any(ord(each) <= 32 or ord(each) > 126 or each == "\\" for each in self.server):
            raise KubeconfigError("server: write the address in ASCII, without blanks and backslashes")
        if parts.scheme != "https" or not parts.hostname:
            raise KubeconfigError(f"server: {self.server!r} must be an https:// address")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise KubeconfigError("server: give the address alone, without user, query or fragment")
        _check_pem(self)
        if any(character.isspace() or not character.isprintable() for character in self.token):
            raise KubeconfigError("token: it holds spaces or line breaks; give it as one line")
        if not self.token.isascii():
            raise KubeconfigError("token: it holds characters that no token has")
        if bool(self.client_certificate) != bool(self.client_key):
            raise KubeconfigError("client-certificate-data and client-key-data: give both or neither")
        if bool(self.token) == bool(self.client_certificate):
            raise KubeconfigError("user: give either a token or a client certificate with its key")


def _check_pem(credentials: Credentials) -> None:
    for field, text in (
        ("certificate-authority-data", credentials.ca_data),
        ("client-certificate-data", credentials.client_certificate),
    ):
        if text:
            try:
                x509.load_pem_x509_certificates(text.encode())
            except ValueError as error:
                raise KubeconfigError(f"{field}: it holds no certificate in PEM form") from error
    if credentials.client_key:
        try:
            load_pem_private_key(credentials.client_key.encode(), password=None)
        except (ValueError, TypeError) as error:
            raise KubeconfigError("client-key-data: it holds no unencrypted key in PEM form") from error


def from_kubeconfig(text: str, *, context: str | None = None) -> Credentials:
    """Read the credentials of one context, the current one unless named, from a kubeconfig's text.

    Nothing in it is run and no file is opened: a kubeconfig that asks for either is refused.

    Raises:
        KubeconfigError: it is no kubeconfig, or holds what Berth does not accept; the message names the field.
    """
    document = _parse(text)
    name = context or document.get("current-context")
    if not name:
        raise KubeconfigError("current-context: it is empty; set it, or name the context to use")
    chosen = _entry(document, "contexts", "context", str(name))
    cluster_name, user_name = chosen.get("cluster"), chosen.get("user")
    if not cluster_name or not user_name:
        raise KubeconfigError(f"contexts[{name}]: it must name a cluster and a user")
    cluster = _entry(document, "clusters", "cluster", str(cluster_name))
    user = _entry(document, "users", "user", str(user_name))
    _refuse(f"clusters[{cluster_name}].cluster", cluster, _REFUSED_CLUSTER)
    _refuse(f"users[{user_name}].user", user, _REFUSED_USER)
    where = f"clusters[{cluster_name}].cluster"
    return Credentials(
        server=_text(where, cluster, "server"),
        ca_data=_decoded(where, cluster, "certificate-authority-data"),
        server_name=_text(where, cluster, "tls-server-name"),
        token=_text(f"users[{user_name}].user", user, "token"),
        client_certificate=_decoded(f"users[{user_name}].user", user, "client-certificate-data"),
        client_key=_decoded(f"users[{user_name}].user", user, "client-key-data"),
    )


_FILE = "Berth opens no file that a kubeconfig names; embed it (kubectl config view --raw --flatten)"

_REFUSED_CLUSTER = {
    "certificate-authority": _FILE,
    "insecure-skip-tls-verify": "Berth always verifies the server; give certificate-authority-data",
    "proxy-url": "Berth takes no proxy from a kubeconfig; it is set for the whole installation by HTTPS_PROXY",
}

_REFUSED_USER = {
    "exec": "Berth runs no program that a kubeconfig names; give a ServiceAccount's token",
    "auth-provider": "Berth runs no authentication plug-in; give a ServiceAccount's token",
    "tokenFile": _FILE,
    "client-certificate": _FILE,
    "client-key": _FILE,
    "as": "Berth impersonates nobody; give the credentials of its own ServiceAccount",
    "as-uid": "Berth impersonates nobody; give the credentials of its own ServiceAccount",
    "as-groups": "Berth impersonates nobody; give the credentials of its own ServiceAccount",
    "as-user-extra": "Berth impersonates nobody; give the credentials of its own ServiceAccount",
    "username": "user names and passwords are not accepted; give a ServiceAccount's token",
    "password": "user names and passwords are not accepted; give a ServiceAccount's token",
}


def _parse(text: str) -> Mapping[str, Any]:
    if len(text.encode(errors="replace")) > LONGEST:
        raise KubeconfigError(f"kubeconfig: it is longer than {LONGEST // 1024} KiB")
    try:
        # An alias may unfold to gigabytes; no kubeconfig needs one.
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, Loader=yaml.SafeLoader)):
            raise KubeconfigError("kubeconfig: YAML aliases are not accepted")
        document = yaml.safe_load(text)
    except KubeconfigError:
        raise
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise KubeconfigError(f"kubeconfig: it is no YAML{_wrong_with(error)}") from None
    if not isinstance(document, dict) or document.get("kind", "Config") != "Config":
        raise KubeconfigError("kubeconfig: kind must be Config")
    return document


def _wrong_with(error: Exception) -> str:
    # The whole message shows the lines around, and with them tokens and keys; quoted words may be some, too.
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return ""
    problem = re.sub(r"""(['"])[^<'"][^'"]{3,}\1""", "a word", str(error.problem or "it ends too soon"))
    mark = error.problem_mark
    return f": {problem[:120]}, in line {mark.line + 1}, column {mark.column + 1}"


def _entry(document: Mapping[str, Any], plural: str, key: str, name: str) -> Mapping[str, Any]:
    entries = document.get(plural)
    if not isinstance(entries, list):
        raise KubeconfigError(f"{plural}: there must be a list")
    found = [entry for entry in entries if isinstance(entry, dict) and entry.get("name") == name]
    if len(found) != 1:
        problem = "is not there" if not found else "is there twice"
        raise KubeconfigError(f"{plural}: {name!r} {problem}")
    value = found[0].get(key)
    if not isinstance(value, dict):
        raise KubeconfigError(f"{plural}[{name}].{key}: there must be a mapping")
    return value


def _refuse(where: str, mapping: Mapping[str, Any], refused: Mapping[str, str]) -> None:
    for field, why in refused.items():
        if mapping.get(field):
            raise KubeconfigError(f"{where}.{field}: {why}")


def _text(where: str, mapping: Mapping[str, Any], field: str) -> str:
    value = mapping.get(field) or ""
    if not isinstance(value, str):
        raise KubeconfigError(f"{where}.{field}: it must be text")
    return value.strip()


def _decoded(where: str, mapping: Mapping[str, Any], field: str) -> str:
    value = _text(where, mapping, field)
    try:
        return base64.b64decode("".join(value.split()), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise KubeconfigError(f"{where}.{field}: it is not base64 of PEM text") from error
