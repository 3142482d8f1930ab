"""The scripts that run in jobs: fetching weights over HTTP, making a folder whole or not at all."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from clusters.triton.runtimes import weights

FILES = {
    "config.json": b"{}",
    "model-00001-of-00002.safetensors": b"first" * 1000,
    "model-00002-of-00002.safetensors": b"second" * 1000,
    "tokenizer/special tokens.json": b"[]",
    "pytorch_model.bin": b"the same once more",
}


class Store:
    """A mirror of the hub and an S3 store on loopback. ``seen`` holds the requests, ``broken`` paths that end early."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.broken: dict[str, int] = {}
        self.token = ""
        self.elsewhere = ""  # files are redirected there
        store = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None: ...

            def do_GET(self) -> None:
                store.answer(self)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        self.seen.append((handler.path, {name.lower(): value for name, value in handler.headers.items()}))
        if self.token and handler.headers.get("Authorization") != f"Bearer {self.token}":
            return self.send(handler, 401, b"who are you")
        if parts.path == "/api/models/org/model/revision/r1":
            siblings = [
                {"rfilename": name, "size": len(body), "lfs": {"sha256": hashlib.sha256(body).hexdigest()}}
                for name, body in FILES.items()
            ]
            return self.send(handler, 200, json.dumps({"siblings": siblings}).encode())
        if parts.path == "/bucket/":
            return self.send(handler, 200, self.page(parse_qs(parts.query)))
        name = next((name for name in FILES if parts.path.endswith("/" + name.replace(" ", "%20"))), None)
        if name is None:
            return self.send(handler, 404, b"no")
        if self.elsewhere:
            handler.send_response(302)
            handler.send_header("Location", f"{self.elsewhere}/{name.replace(' ', '%20')}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return None
        body = FILES[name]
        if self.broken.get(name, 0) > 0:
            self.broken[name] -= 1
            body = b"x" * len(body)
        return self.send(handler, 200, body)

    def page(self, query: dict[str, list[str]]) -> bytes:
        names = sorted(FILES)
        second = "continuation-token" in query
        rows = "".join(
            f"<Contents><Key>models/llama/{name}</Key><Size>{len(FILES[name])}</Size></Contents>"
            for name in (names[2:] if second else names[:2])
        )
        more = "" if second else "<NextContinuationToken>a/b=</NextContinuationToken>"
        space = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
        return f"<ListBucketResult {space}>{rows}{more}</ListBucketResult>".encode()

    def send(self, handler: http.server.BaseHTTPRequestHandler, status: int, body: bytes) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


@pytest.fixture
def store() -> Iterator[Store]:
    found = Store()
    yield found
    found.stop()


def run(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.defpath, **environment}
    command = [sys.executable, "-c", weights.script(name), *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_mirrors_files_are_fetched_whole_with_its_token_and_no_format_twice(store, tmp_path):
    store.token = "hf_1"
    to = tmp_path / "weights-1"
    done = run("load", "hugging-face", f"{store.url}/org/model", "r1", str(to), HF_TOKEN="hf_1")
    assert done.returncode == 0, done.stderr
    assert content(to) == {name: body for name, body in FILES.items() if name != "pytorch_model.bin"}
    assert "hf_1" not in done.stdout + done.stderr
    asked = len(store.seen)
    assert run("load", "hugging-face", f"{store.url}/org/model", "r1", str(to)).returncode == 0
    assert len(store.seen) == asked, "what is there is not fetched again"


def test_a_file_that_comes_wrong_is_fetched_again(store, tmp_path):
    store.broken["config.json"] = 1
    done = run("load", "hugging-face", f"{store.url}/org/model", "r1", str(tmp_path / "w"))
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "w")["config.json"] == b"{}"


def test_a_token_stays_with_the_mirror_when_files_lie_elsewhere(store, tmp_path):
    other = Store()
    try:
        store.token, store.elsewhere = "hf_1", other.url.replace("127.0.0.1", "localhost")
        done = run(
            "load", "hugging-face", f"{store.url}/org/model", "r1", str(tmp_path / "w"), HF_TOKEN="hf_1"
        )
        assert done.returncode == 0, done.stderr
        assert len(other.seen) == 4
        assert not [path for path, headers in other.seen if "authorization" in headers]
    finally:
        other.stop()


def test_a_refusal_is_said_plainly_and_leaves_nothing_that_looks_whole(store, tmp_path):
    store.token = "hf_1"
    done = run("load", "hugging-face", f"{store.url}/org/model", "r1", str(tmp_path / "w"), HF_TOKEN="hf_2")
    assert done.returncode == 1
    assert "weights cannot be fetched: 127.0.0.1" in done.stderr
    assert "the token or key is not accepted" in done.stderr
    assert "hf_2" not in done.stderr
    assert not (tmp_path / "w").exists()


def test_an_object_store_is_listed_page_by_page_and_signed(store, tmp_path):
    done = run(
        "load", "object-store", "s3://bucket/models/llama", "", str(tmp_path / "w"),
        AWS_ENDPOINT_URL=store.url, AWS_ACCESS_KEY_ID="AK", AWS_SECRET_ACCESS_KEY="secret", AWS_REGION="eu-1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "w") == FILES
    for _, headers in store.seen:
        assert headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AK/")
        assert (
            "/eu-1/s3/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date"
            in headers["authorization"]
        )
        assert "secret" not in json.dumps(headers)


def test_a_folder_gets_its_name_only_when_the_command_went_well(tmp_path):
    to = tmp_path / "cache" / "engine-1"
    write = "import sys,pathlib; p=pathlib.Path(sys.argv[1]); p.mkdir(); (p/'rank0').write_text('e'); sys.exit({})"
    failed = run("make", str(to), sys.executable, "-c", write.format(3), "{output}")
    assert failed.returncode == 3
    assert list(to.parent.iterdir()) == []
    done = run("make", str(to), sys.executable, "-c", write.format(0), "{output}")
    assert done.returncode == 0, done.stderr
    assert content(to) == {"rank0": b"e"}
    again = run("make", str(to), sys.executable, "-c", "raise SystemExit(9)")
    assert (again.returncode, again.stdout) == (0, "engine-1 is there already\n")
