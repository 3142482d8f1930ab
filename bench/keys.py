"""Keys: what checking one costs at a gateway and at the API, and how soon a revoked one is refused everywhere."""

from __future__ import annotations

import contextlib
import datetime as dt
import hmac
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec

from bench.tools import berth
from bench.tools.figures import Figures, quantiles
from bench.tools.load import ROOT
from gateway import keys
from gateway.contract import Key, SloClass, Snapshot, Timeouts, Verb
from gateway.directory import Directory, read_snapshot
from portal.demo import accounts
from tests.gateway import world
from tests.scenarios.stack import Session

KEYS: Final = (10, 10_000, 100_000)
NETWORKS: Final = tuple(f"10.{number}.0.0/16" for number in range(10))
ADDRESS: Final = "10.9.1.2"  # in the last of them
CHECKS: Final = 20_000
ROUNDS: Final = 5
CALLS: Final = 200
WARM_UPS: Final = 20
REVOCATIONS: Final = 30
GATEWAYS: Final = (1, 4)
MANY_KEYS: Final = 10_000
PROMISE_S: Final = 5.0
PATIENCE_S: Final = 60.0
TENANT: Final = accounts.TENANTS[0]


def measure() -> Figures:
    """Check keys in one process, then over HTTP, then revoke some before gateways of a real control plane.

    ``digest_floor_us`` is the keyed digest alone, in turns with the checks. ``revoked_…`` runs from the answer to the
    revocation until the last gateway refused the key; the clients ask without pause, ``…_ask_p50_ms`` being one such
    question. ``…_many_keys`` has 10,000 other keys beside.
    """
    figures = _checks()
    with berth.running("web") as site:
        owner = _Owner(site.portal)
        figures |= _management(site, owner)
        with contextlib.ExitStack() as stack:
            gateways: list[str] = []
            for count in GATEWAYS:
                while len(gateways) < count:
                    gateways.append(stack.enter_context(_gateway(site, len(gateways))))
                figures |= _revocations(owner, gateways, f"revoked_{count}_gateways")
            _fill(site, MANY_KEYS)
            figures |= _revocations(owner, gateways, f"revoked_{len(gateways)}_gateways_many_keys")
    return {**figures, "revocation_promise_s": PROMISE_S}


def _checks() -> Figures:
    """Time the check of one key among many, by the median of some rounds in turns."""
    figures: Figures = {}
    rng = random.Random(7)
    texts = [_text(rng) for _ in range(200)]
    times: dict[str, list[float]] = {}
    sides: dict[str, Callable[[str], object]] = {
        "digest_floor_us": lambda text: hmac.digest(world.PEPPER, text.encode(), "sha256").hex()
    }
    for count in KEYS:
        for name, networks in (("", ()), ("_networks", NETWORKS)):
            content = _snapshot(count, texts, networks)
            begun = time.perf_counter()
            directory = Directory(
                read_snapshot(content, gateway="gw-1", region="eu-de-1"), peppers={7: world.PEPPER}
            )
            if not networks:
                figures[f"snapshot_{count}_read_ms"] = (time.perf_counter() - begun) * 1000
                figures[f"snapshot_{count}_mib"] = len(content) / 2**20
            sides[f"check_{count}{name}_us"] = _check(directory)
    for _ in range(ROUNDS):
        for name, side in sides.items():
            begun = time.perf_counter()
            for number in range(CHECKS):
                side(texts[number % len(texts)])
            times.setdefault(name, []).append((time.perf_counter() - begun) / CHECKS * 1e6)
    return {**figures, **{name: statistics.median(spent) for name, spent in times.items()}}


def _check(directory: Directory) -> Callable[[str], object]:
    def check(text: str) -> None:
        key = directory.key(f"Bearer {text}")
        keys.require_current(key, now=dt.datetime.now(dt.UTC))
        keys.require_place(key, ADDRESS)
        keys.require_verb(key, Verb.CHAT)

    return check


def _text(rng: random.Random) -> str:
    body = "".join(rng.choice("0123456789abcdefghijklmnopqrstuvwxyz") for _ in range(36))
    return keys.PREFIX + body + keys.checksum(body)


def _snapshot(count: int, texts: Sequence[str], networks: tuple[str, ...]) -> bytes:
    """Encode a snapshot with ``count`` keys, or as many as there are texts."""
    until = dt.datetime.now(dt.UTC) + dt.timedelta(days=30)
    verbs = (Verb.CHAT.value, Verb.MODELS.value) if networks else ()
    digests = [keys.digest(text, world.PEPPER) for text in texts]
    digests += [f"{number:064x}" for number in range(max(0, count - len(texts)))]
    rows = tuple(
        Key(
            key_id=f"k{number}", pepper_id=7, digest=digest, tenant_id="t1", project_id="p1", name=f"key {number}",
            expires_at=until, networks=networks, verbs=verbs,
        )
        for number, digest in enumerate(digests)
    )  # fmt: skip
    classes = (SloClass(name="standard", priority=2, timeouts=Timeouts(
        connect_s=1, first_token_s=5, between_tokens_s=5, total_s=20, attempts=2
    )),)  # fmt: skip
    return msgspec.json.encode(
        Snapshot.build(gateway="gw-1", region="eu-de-1", keys=rows, endpoints=(), classes=classes)
    )


class _Owner(Session):
    """The demo tenant's owner, who makes and revokes keys through REST."""

    def __init__(self, portal: str) -> None:
        super().__init__(portal, TENANT.owner)

    def key(self, **wishes: Any) -> dict[str, Any]:
        made: dict[str, Any] = self.post("/keys", {"name": "bench", **wishes})
        return made


def _management(site: berth.Berth, owner: _Owner) -> Figures:
    """Time one cheap list by management key and by session, in turns, and refusals."""
    role = {"scope": "management", "role": "viewer"}
    plain = owner.key(**role)["key"]
    narrow = owner.key(**role, networks=["127.0.0.0/8", *NETWORKS], verbs=["view"])["key"]
    unknown = _text(random.Random(11))
    with httpx.Client(base_url=site.portal, timeout=30) as client:

        def by(key: str, status: int = 200) -> Callable[[], None]:
            def call() -> None:
                answer = client.get("/api/v1/projects", headers={"Authorization": f"Bearer {key}"})
                if answer.status_code != status:
                    raise RuntimeError(f"a key was answered {answer.status_code}: {answer.text[:300]}")

            return call

        sides = {
            "healthz_floor": lambda: client.get("/healthz"),
            "session": lambda: owner.get("/projects"),
            "management_key": by(plain),
            "management_key_narrowed": by(narrow),
            "unknown_key": by(unknown, 401),
            "malformed_key": by(unknown[:-1], 401),
        }
        spent: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(WARM_UPS + CALLS):
            for name, call in sides.items():
                begun = time.perf_counter()
                call()
                if number >= WARM_UPS:
                    spent[name].append((time.perf_counter() - begun) * 1000)
    figures: Figures = {}
    for name, values in spent.items():
        figures |= quantiles(name, values, "ms")
    return figures


@contextlib.contextmanager
def _gateway(site: berth.Berth, number: int) -> Iterator[str]:
    """Run another process of the demo's gateway; give its address."""
    folder = site.data_dir.folder(f"bench-gateway-{number}")
    address = Path(folder) / "gateway" / accounts.GATEWAY / "address.json"
    environment = {
        **site.environment(),
        "BERTH_GATEWAY_NAME": accounts.GATEWAY,
        "BERTH_GATEWAY_REGION": accounts.GATEWAY_REGION,
        "BERTH_GATEWAY_TOKEN": site.gateway_token,
        "BERTH_CONTROL_PLANE_URL": site.portal,
        "BERTH_DATA_DIR": str(folder),
        "BERTH_GATEWAY_PORT": "0",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway"], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL
    )
    try:
        yield _ready(address)
    finally:
        process.terminate()
        process.wait(60)


def _ready(address: Path) -> str:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError, httpx.HTTPError):
            url = str(json.loads(address.read_text())["url"])
            if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                return url
        time.sleep(0.05)
    raise RuntimeError("a gateway did not start")


def _revocations(owner: _Owner, gateways: Sequence[str], name: str) -> Figures:
    with (
        ThreadPoolExecutor(len(gateways)) as pool,
        contextlib.ExitStack() as stack,
    ):
        clients = [stack.enter_context(httpx.Client(base_url=url, timeout=30)) for url in gateways]
        refused, known, asked = [], [], []
        for _ in range(REVOCATIONS):
            made = owner.key(scope="inference", project="default")
            begun = time.perf_counter()
            for seen in [pool.submit(_until, client, made["key"], 200) for client in clients]:
                asked.append(seen.result()[1])
            known.append((time.perf_counter() - begun) * 1000)
            owner.post(f"/keys/{made['id']}:revoke")
            begun = time.perf_counter()
            for seen in [pool.submit(_until, client, made["key"], 401) for client in clients]:
                seen.result()
            refused.append((time.perf_counter() - begun) * 1000)
    return {
        **quantiles(name, refused, "ms", percents=(50, 95, 100)),
        **quantiles(name.replace("revoked", "made"), known, "ms"),
        f"{name}_ask_p50_ms": statistics.median(asked),
    }


def _until(client: httpx.Client, key: str, status: int) -> tuple[int, float]:
    """Ask until the gateway answers so; give how often, and how long the last question took in ms."""
    deadline, times = time.monotonic() + PATIENCE_S, 0
    while time.monotonic() < deadline:
        times += 1
        begun = time.perf_counter()
        found = client.get("/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code
        if found == status:
            return times, (time.perf_counter() - begun) * 1000
    raise RuntimeError(f"a gateway answered {found} and not {status} for {PATIENCE_S:g} s")


def _fill(site: berth.Berth, count: int) -> None:
    subprocess.run(
        [sys.executable, "-m", "bench.tools.keys", TENANT.slug, str(count)],
        cwd=ROOT, env=site.environment(), check=True, timeout=300,
    )  # fmt: skip
