"""How old the snapshot is, whatever clocks do, and which tenants are refused for it."""

from __future__ import annotations

import asyncio
import json
import math
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract import Tenant
from gateway.freshness import Contact, Freshness
from tests.gateway.conftest import Bench, eventually
from tests.gateway.world import KEY, OTHER_TENANT_KEY

CHAT = {"model": "docs", "messages": [{"role": "user", "content": "hello there"}]}


class Clocks:
    """A wall clock that can be set, and a boot clock that cannot."""

    def __init__(self) -> None:
        self.wall, self.boot, self.boot_id = 1_000_000.0, 500.0, "first"

    def sleep(self, seconds: float) -> None:
        self.wall += seconds
        self.boot += seconds

    def reboot(self, *, off_s: float = 0.0) -> None:
        self.wall += off_s
        self.boot, self.boot_id = 1.0, self.boot_id + "'"

    def contact(self, folder: Path) -> Contact:
        """Make what a process that starts now has."""
        return Contact(
            folder / "contact.json", wall=lambda: self.wall, boot=lambda: self.boot, boot_id=self.boot_id
        )


def restarted(clocks: Clocks, folder: Path) -> Contact:
    contact = clocks.contact(folder)
    contact.load(snapshot=folder / "snapshot.json")
    return contact


def test_without_a_contact_there_is_no_age(tmp_path: Path) -> None:
    contact = Clocks().contact(tmp_path)
    assert contact.age_s() is None
    assert contact.since() is None


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(-1e7, 1e7)), max_size=10))
def test_no_setting_of_the_clock_changes_an_age(steps: list[tuple[float, float]]) -> None:
    clocks = Clocks()
    contact = clocks.contact(Path("/nowhere"))
    contact.made()
    slept = 0.0
    for seconds, jump in steps:
        clocks.sleep(seconds)
        clocks.wall += jump
        slept += seconds
    assert contact.age_s() == pytest.approx(slept)


@pytest.mark.parametrize("jump", [-3600.0, 0.0, 3600.0])
def test_an_age_survives_a_restart_of_the_process_by_the_boot_clock(tmp_path: Path, jump: float) -> None:
    clocks = Clocks()
    contact = clocks.contact(tmp_path)
    contact.made()
    contact.save()
    clocks.sleep(100)
    clocks.wall += jump

    assert restarted(clocks, tmp_path).age_s() == pytest.approx(100)


def test_an_age_survives_a_restart_of_the_machine_by_the_wall_clock(tmp_path: Path) -> None:
    clocks = Clocks()
    contact = clocks.contact(tmp_path)
    contact.made()
    contact.save()
    clocks.sleep(100)
    clocks.reboot(off_s=50)

    later = restarted(clocks, tmp_path)
    assert later.age_s() == pytest.approx(150)
    assert later.since() is not None
    assert later.since().timestamp() == pytest.approx(1_000_000)


def test_a_contact_from_the_future_is_of_unknown_age_until_the_next(tmp_path: Path) -> None:
    clocks = Clocks()
    contact = clocks.contact(tmp_path)
    contact.made()
    contact.save()
    clocks.reboot(off_s=-3600)

    later = restarted(clocks, tmp_path)
    assert later.age_s() == math.inf
    assert later.since() is None
    later.made()
    assert later.age_s() == 0


def test_a_little_of_the_future_is_a_clock_that_was_set(tmp_path: Path) -> None:
    clocks = Clocks()
    contact = clocks.contact(tmp_path)
    contact.made()
    contact.save()
    clocks.reboot(off_s=-5)
    assert restarted(clocks, tmp_path).age_s() == 0


@pytest.mark.parametrize("kept", [None, b"", b"{", b'{"at": "x"}'])
def test_without_a_good_note_the_snapshot_s_own_age_counts(tmp_path: Path, kept: bytes | None) -> None:
    clocks = Clocks()
    (tmp_path / "snapshot.json").touch()
    os.utime(tmp_path / "snapshot.json", (clocks.wall - 70, clocks.wall - 70))
    if kept is not None:
        (tmp_path / "contact.json").write_bytes(kept)
    assert restarted(clocks, tmp_path).age_s() == pytest.approx(70)


@pytest.mark.parametrize(
    ("limit_s", "age_s", "refused"), [(300, 299, 0), (300, 301, 1), (1, 29, 0), (1, 31, 1)]
)
def test_a_tenant_s_limit_is_no_shorter_than_what_a_healthy_poll_takes(
    tmp_path: Path, limit_s: float, age_s: float, refused: int
) -> None:
    clocks = Clocks()
    contact = clocks.contact(tmp_path)
    contact.made()
    clocks.sleep(age_s)
    assert Freshness(contact).refuses(Tenant(tenant_id="t", name="T", refuse_after_s=limit_s)) == bool(
        refused
    )


async def cut_off_for(bench: Bench, seconds: float) -> None:
    """Restart the gateway with a contact that old and no control plane."""
    await bench.stop()
    await bench.control.stop()
    path = bench.folder / "contact.json"
    kept = json.loads(path.read_bytes())
    # As of another start of the machine, so that the wall clock is what counts.
    path.write_text(json.dumps({**kept, "at": time.time() - seconds, "boot_id": "another"}))
    await bench.start()


async def readiness(bench: Bench) -> dict[str, object]:
    async with bench.http.get(f"{bench.url}/readyz") as response:
        assert response.status == 200
        return await response.json()


@pytest.fixture
async def tenants(idle: Bench) -> Bench:
    """Two tenants of which one is not served from a snapshot older than 5 minutes."""
    idle.world.more["tenants"] = (
        Tenant(tenant_id="t1", name="Careful", refuse_after_s=300.0),
        Tenant(tenant_id="t2", name="Easy", refuse_after_s=None),
    )
    idle.publish()
    await idle.ready()
    await eventually(lambda: (idle.folder / "contact.json").exists())
    return idle


async def test_a_tenant_that_chose_so_is_refused_and_others_go_on(tenants: Bench) -> None:
    assert (await readiness(tenants))["tenants_refused"] == 0
    await cut_off_for(tenants, 400)

    async with tenants.post("/v1/chat/completions", CHAT) as response:
        body = await response.json()
    assert response.status == 503
    assert body["error"]["code"] == "gateway_cut_off"
    for said in ("Careful", "300 s", "UTC", "(40", "revoked"):
        assert said in body["error"]["message"]
    assert response.headers["retry-after"]
    assert int(response.headers["x-berth-snapshot-age"]) >= 400
    async with tenants.http.get(
        f"{tenants.url}/v1/models", headers={"authorization": f"Bearer {KEY}"}
    ) as response:
        assert response.status == 503
    async with tenants.post(
        "/v1/chat/completions", CHAT | {"model": "theirs"}, key=OTHER_TENANT_KEY
    ) as other:
        assert other.status == 200
        assert int(other.headers["x-berth-snapshot-age"]) >= 400
    assert (await readiness(tenants))["tenants_refused"] == 1
    async with tenants.http.get(f"{tenants.url}/metrics") as response:
        assert "berth_gateway_tenants_refused 1.0" in await response.text()

    await tenants.control.start()
    await eventually(lambda: tenants.control.requests() == {"refused": 1, "completed": 1})
    async with asyncio.timeout(15):
        while await tenants.http_status("/v1/chat/completions", CHAT) != 200:
            await asyncio.sleep(0.05)
    assert (await readiness(tenants))["tenants_refused"] == 0


async def test_within_the_time_it_is_served_and_told_how_old_the_snapshot_is(tenants: Bench) -> None:
    async with tenants.post("/v1/chat/completions", CHAT) as response:
        assert response.status == 200
        assert "x-berth-snapshot-age" not in response.headers
    await cut_off_for(tenants, 200)
    async with tenants.post("/v1/chat/completions", CHAT | {"stream": True}) as response:
        await response.read()
        assert response.status == 200
        assert int(response.headers["x-berth-snapshot-age"]) >= 200


async def test_a_clock_that_cannot_be_right_refuses(tenants: Bench) -> None:
    await cut_off_for(tenants, -7200)
    async with tenants.post("/v1/chat/completions", CHAT) as response:
        assert response.status == 503
        assert "cannot tell" in (await response.json())["error"]["message"]
        assert response.headers["x-berth-snapshot-age"] == "unknown"
    assert (await readiness(tenants))["control_plane_contact_age_s"] is None
