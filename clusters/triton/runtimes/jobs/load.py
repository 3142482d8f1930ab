"""Runs in a job: fetches a model's files into a folder, whole or not at all. Needs nothing but Python.

``python3 -c load.py KIND URI REVISION FOLDER``. KIND ``hugging-face`` asks the mirror in URI (token in HF_TOKEN);
``object-store`` speaks S3 to s3://, gs:// or https://host/bucket (keys in AWS_ACCESS_KEY_ID and
AWS_SECRET_ACCESS_KEY, unsigned without them; AWS_ENDPOINT_URL, AWS_REGION). What an attempt got whole, the next
one keeps.
"""

from __future__ import annotations

import concurrent.futures
import datetime as dt
import hashlib
import hmac
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

PARALLEL = 4
ATTEMPTS = 4
CHUNK = 1 << 20
# Where a repository has safetensors, other formats hold the same once more.
OTHER_FORMATS = (".bin", ".pt", ".pth", ".h5", ".msgpack", ".onnx", ".gguf", ".ot", ".ckpt")
EMPTY = hashlib.sha256(b"").hexdigest()


class LoadError(Exception):
    """The weights cannot be had; the message is for the operator."""


@dataclass(frozen=True)
class Remote:
    """One file to fetch. ``size`` is -1 and ``sha256`` empty where the other side does not say."""

    path: str
    url: str
    size: int = -1
    sha256: str = ""
    headers: dict[str, str] = field(default_factory=dict)


class KeepsCredentials(urllib.request.HTTPRedirectHandler):
    """Follows to another host without the credentials of the first."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        if (
            new is not None
            and urllib.parse.urlsplit(newurl).netloc != urllib.parse.urlsplit(req.full_url).netloc
        ):
            for name in ("Authorization", "X-amz-security-token"):
                new.remove_header(name)
        return new


_open = urllib.request.build_opener(KeepsCredentials()).open


class HuggingFace:
    """A mirror of the hub: its API for the list, its resolve path for the files."""

    def __init__(self, uri: str, revision: str) -> None:
        parts = urllib.parse.urlsplit(uri)
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._repository = parts.path.strip("/")
        self._revision = urllib.parse.quote(revision, safe="")
        token = os.environ.get("HF_TOKEN", "")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def files(self) -> list[Remote]:
        url = f"{self._origin}/api/models/{self._repository}/revision/{self._revision}?blobs=true"
        listing = json.loads(get(url, self._headers))
        found = {entry["rfilename"]: entry for entry in listing["siblings"]}
        if any(name.endswith(".safetensors") for name in found):
            found = {name: entry for name, entry in found.items() if not name.endswith(OTHER_FORMATS)}
        return [
            Remote(
                path=name,
                url=f"{self._origin}/{self._repository}/resolve/{self._revision}/{urllib.parse.quote(name)}",
                size=entry["size"] if isinstance(entry.get("size"), int) else -1,
                sha256=(entry.get("lfs") or {}).get("sha256", ""),
                headers=self._headers,
            )
            for name, entry in sorted(found.items())
        ]

    def headers(self, remote: Remote) -> dict[str, str]:
        return remote.headers


class ObjectStore:
    """S3 and what speaks like it, signed with signature version 4."""

    def __init__(self, uri: str) -> None:
        parts = urllib.parse.urlsplit(uri)
        self._region = os.environ.get("AWS_REGION", "us-east-1")
        endpoint = os.environ.get("AWS_ENDPOINT_URL", "").rstrip("/")
        if parts.scheme == "s3":
            host = f"https://{parts.netloc}.s3.{self._region}.amazonaws.com"
            self._bucket = f"{endpoint}/{parts.netloc}" if endpoint else host
            self._prefix = parts.path.strip("/")
        elif parts.scheme == "gs":
            self._bucket = f"{endpoint or 'https://storage.googleapis.com'}/{parts.netloc}"
            self._prefix = parts.path.strip("/")
        else:
            bucket, _, self._prefix = parts.path.strip("/").partition("/")
            self._bucket = f"{parts.scheme}://{parts.netloc}/{bucket}"
        self._key = os.environ.get("AWS_ACCESS_KEY_ID", "")
        self._secret = os.environ.get("AWS_SECRET_ACCESS_KEY", "")
        self._session = os.environ.get("AWS_SESSION_TOKEN", "")

    def files(self) -> list[Remote]:
        return list(self._list())

    def headers(self, remote: Remote) -> dict[str, str]:
        return self._sign(remote.url)

    def _list(self) -> Iterator[Remote]:
        folder = f"{self._prefix}/" if self._prefix else ""
        query = {"list-type": "2", "prefix": folder}
        while True:
            url = f"{self._bucket}/?{encode(query)}"
            page = ET.fromstring(get(url, self._sign(url)))  # noqa: S314 - the operator's own store
            space = page.tag.partition("}")[0] + "}" if page.tag.startswith("{") else ""
            for entry in page.findall(f"{space}Contents"):
                key = entry.findtext(f"{space}Key") or ""
                if key.startswith(folder) and not key.endswith("/"):
                    size = int(entry.findtext(f"{space}Size") or -1)
                    url = f"{self._bucket}/{urllib.parse.quote(key, safe='/-_.~')}"
                    yield Remote(path=key[len(folder) :], url=url, size=size)
            token = page.findtext(f"{space}NextContinuationToken")
            if not token:
                return
            query["continuation-token"] = token

    def _sign(self, url: str) -> dict[str, str]:
        if not self._key:
            return {}
        parts = urllib.parse.urlsplit(url)
        now = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%SZ")
        headers = {"host": parts.netloc, "x-amz-content-sha256": EMPTY, "x-amz-date": now}
        if self._session:
            headers["x-amz-security-token"] = self._session
        names = ";".join(sorted(headers))
        query = encode(dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True)))
        lines = [f"{name}:{headers[name]}\n" for name in sorted(headers)]
        request = "\n".join(["GET", parts.path or "/", query, "".join(lines), names, EMPTY])
        scope = f"{now[:8]}/{self._region}/s3/aws4_request"
        digest = hashlib.sha256(request.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{digest}"
        key = f"AWS4{self._secret}".encode()
        for part in scope.split("/"):
            key = hmac.new(key, part.encode(), "sha256").digest()
        signature = hmac.new(key, text.encode(), "sha256").hexdigest()
        del headers["host"]
        headers["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self._key}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        return headers


def encode(query: dict[str, str]) -> str:
    """Write a query in the order and spelling that signatures need."""
    return urllib.parse.urlencode(sorted(query.items()), quote_via=urllib.parse.quote, safe="-_.~")


def get(url: str, headers: dict[str, str]) -> bytes:
    """Read a small answer, trying again while the network fails."""
    for attempt in range(ATTEMPTS):
        try:
            with _open(urllib.request.Request(url, headers=headers), timeout=60) as answer:  # noqa: S310
                return bytes(answer.read())
        except (OSError, urllib.error.URLError) as error:
            if final(error) or attempt == ATTEMPTS - 1:
                raise LoadError(explained(url, error)) from error
            time.sleep(2**attempt)
    raise AssertionError


def fetch(source: HuggingFace | ObjectStore, remote: Remote, folder: Path) -> None:
    """Fetch one file, unless an earlier attempt did."""
    to = folder / safe(remote.path)
    if to.is_file() and (remote.size < 0 or to.stat().st_size == remote.size):
        return
    to.parent.mkdir(parents=True, exist_ok=True)
    part = to.with_name(f"{to.name}.part")
    for attempt in range(ATTEMPTS):
        try:
            request = urllib.request.Request(remote.url, headers=source.headers(remote))  # noqa: S310
            digest, length = hashlib.sha256(), 0
            with _open(request, timeout=120) as answer, part.open("wb") as file:
                while chunk := answer.read(CHUNK):
                    file.write(chunk)
                    digest.update(chunk)
                    length += len(chunk)
            if remote.size >= 0 and length != remote.size:
                raise OSError(f"{length} bytes came of {remote.size}")
            if remote.sha256 and digest.hexdigest() != remote.sha256:
                raise OSError("its digest is not what the mirror says")
            os.rename(part, to)
            print(f"{remote.path}: {length} bytes", flush=True)
            return
        except OSError as error:
            if final(error) or attempt == ATTEMPTS - 1:
                raise LoadError(explained(remote.url, error)) from error
            time.sleep(2**attempt)


def final(error: Exception) -> bool:
    """Tell whether asking again would bring the same answer."""
    return isinstance(error, urllib.error.HTTPError) and error.code in (400, 401, 403, 404, 410)


def explained(url: str, error: Exception) -> str:
    """Say what went wrong with which address, without what is secret in either."""
    place = urllib.parse.urlsplit(url)
    reasons = {
        401: "the token or key is not accepted",
        403: "the token or key may not read it",
        404: "not there",
    }
    code = error.code if isinstance(error, urllib.error.HTTPError) else None
    return f"{place.netloc}{place.path}: {reasons.get(code or 0) or code or error}"


def safe(path: str) -> PurePosixPath:
    """Give a path that stays below its folder."""
    found = PurePosixPath(path)
    if found.is_absolute() or ".." in found.parts or not found.parts:
        raise LoadError(f"a file is named {path!r}")
    return found


def load(kind: str, uri: str, revision: str, folder: Path) -> None:
    """Fetch everything into ``folder``.

    Raises:
        LoadError: it cannot be had.
    """
    if folder.is_dir():
        print(f"{folder.name} is there already")
        return
    source = HuggingFace(uri, revision) if kind == "hugging-face" else ObjectStore(uri)
    files = source.files()
    if not files:
        raise LoadError(f"there is nothing at {uri}")
    partial = folder.with_name(f"{folder.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    with concurrent.futures.ThreadPoolExecutor(PARALLEL) as pool:
        running = [pool.submit(fetch, source, remote, partial) for remote in files]
        try:
            for done in concurrent.futures.as_completed(running):
                done.result()
        except LoadError:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    os.rename(partial, folder)
    print(f"{folder.name}: {len(files)} files")


if __name__ == "__main__":
    try:
        load(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]))
    except LoadError as error:
        sys.exit(f"weights cannot be fetched: {error}")
