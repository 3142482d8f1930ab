"""Evidence: what it says of an endpoint's places, who asked, what was excepted; and that nobody can change it."""

from __future__ import annotations

import datetime as dt
import io
import json
import subprocess
import zipfile

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from billing.models import Allocation, Attainment
from clusters.endpoints.evidence.packing import DOCUMENT, NAMES, canonical, unpack
from clusters.endpoints.evidence.services import evidence_make
from clusters.endpoints.services import endpoint_order
from clusters.models import Endpoint, Region, Revision
from tenants import acting, scope, signing
from tenants.errors import Invalid
from tenants.models import Membership, Project, Tenant
from tests.api.conftest import client_of
from tests.estate import make_estate
from tests.factories import audit_entries, make_tenant, make_user

pytestmark = pytest.mark.django_db
ANNA = acting.Actor("person", "7", "anna@example.org")
HOUR = dt.timedelta(hours=1)


@pytest.fixture
def estate(db):
    return make_estate()


@pytest.fixture
def tenant(estate) -> Tenant:
    return make_tenant("nord", name="Nordwind")


@pytest.fixture
def endpoint(estate, tenant) -> Endpoint:
    """An endpoint that anna ordered within the EU, placed, and holding GPUs since then."""
    with acting.acting(acting.Acting(who=ANNA)), scope.tenant(tenant.id):
        ordered = endpoint_order(
            project=Project.objects.get(),
            name="chat",
            terms=estate.terms(residency="zone:EU"),
            actor="anna@example.org",
        )
        revision = Revision.objects.filter(endpoint=ordered).first()
        hold(revision)
    audit_entries(tenant)
    return ordered


def hold(revision: Revision, *, region: str = "") -> Allocation:
    return Allocation.objects.create(
        project=revision.endpoint.project, endpoint_id=revision.endpoint_id, revision_id=revision.id,
        replica_id=f"{revision.deployment}-0", cluster=revision.cluster.name,
        region=region or revision.cluster.region.code, pool=revision.pool.name, gpu_type=revision.gpu_type, gpus=1,
        started_at=timezone.now(),
    )  # fmt: skip


def make(endpoint: Endpoint, **changes) -> bytes:
    today = timezone.now().date()
    wanted = {
        "first": today,
        "end": today + dt.timedelta(days=1),
        "now": timezone.now() + HOUR,
        "by": "a test",
    }
    with scope.tenant(endpoint.tenant_id):
        return evidence_make(endpoint=endpoint, **(wanted | changes))


def keys() -> dict:
    return {str(number): key for number, key in signing.public_keys().items()}


def document(endpoint: Endpoint, **changes) -> dict:
    return unpack(make(endpoint, **changes), keys())


def answers(found: dict) -> dict[str, str]:
    return {check["name"]: check["answer"] for check in found["checks"]}


def test_it_says_where_the_endpoint_had_to_be_and_where_it_was(endpoint):
    found = document(endpoint)
    assert [each["residency"] for each in found["residency_demanded"]] == ["zone:EU"]
    (placed,) = found["placements"]
    kept = placed["place_at_placement"]
    assert "EU" in kept["zones"]
    assert {"region", "country", "certifications"} <= set(kept)
    (held,) = found["gpus_held"]
    assert held["region"] == kept["region"]
    assert set(answers(found).values()) == {"yes"}
    assert set(answers(found)) == {"residency", "certifications", "policy", "places", "gateways", "audit"}


def test_it_says_who_asked_and_names_the_audits_entries(endpoint, tenant):
    found = document(endpoint)
    (move,) = found["moves"]
    assert (move["from"], move["asked_by"]) == (None, "person anna@example.org")
    assert [entry["action"] for entry in found["audit"]["entries"]] == ["endpoint.create", "revision.create"]
    stored = {entry.number: entry.hash for entry in audit_entries(tenant)}
    assert all(stored[entry["number"]] == entry["hash"] for entry in found["audit"]["entries"])
    assert found["audit"]["chain_head"]["hash"] in stored.values()


def test_what_a_place_was_is_kept_though_its_region_changes(endpoint):
    before = document(endpoint)["placements"][0]["place_at_placement"]
    Region.objects.filter(code=before["region"]).update(zones=["MOON"], certifications=[])
    found = document(endpoint)
    assert found["placements"][0]["place_at_placement"] == before
    assert answers(found)["residency"] == "yes"


def test_gpus_outside_the_residency_are_found_with_their_interval(endpoint):
    with scope.tenant(endpoint.tenant_id):
        revision = Revision.objects.get()
        outside = revision.place | {"region": "us-east-1", "zones": ["US"]}
        Revision.objects.update(place=outside)
        held = Allocation.objects.get()
    found = document(endpoint)
    assert (answers(found)["residency"], answers(found)["places"]) == ("no", "no")
    (finding,) = next(check for check in found["checks"] if check["name"] == "residency")["findings"]
    assert "us-east-1" in finding["why"]
    assert dt.datetime.fromisoformat(finding["from"]) >= held.started_at


def test_a_demand_is_that_of_its_time(endpoint):
    with acting.acting(acting.Acting(who=ANNA)), scope.tenant(endpoint.tenant_id):
        Endpoint.objects.update(residency="region:us-east-1", certifications=["C5"])
    audit_entries(endpoint.tenant)
    with scope.tenant(endpoint.tenant_id):
        endpoint = Endpoint.objects.select_related("tenant", "project", "model", "slo_class").get()
    found = document(endpoint)
    assert [(each["residency"], each["certifications"]) for each in found["residency_demanded"]] == [
        ("zone:EU", []), ("region:us-east-1", ["C5"]),
    ]  # fmt: skip
    assert found["residency_demanded"][0]["until"] == found["residency_demanded"][1]["from"]
    findings = next(check for check in found["checks"] if check["name"] == "residency")["findings"]
    assert [each["from"] for each in findings] == [found["residency_demanded"][1]["from"]]


def test_a_place_that_nobody_kept_is_not_proven(endpoint):
    with scope.tenant(endpoint.tenant_id):
        Revision.objects.update(place=None)
    found = document(endpoint)
    assert found["placements"][0]["place_was_kept"] is False
    assert answers(found)["residency"] == "not-proven"


def test_service_levels_are_told_day_by_day(endpoint):
    today = timezone.now().date()
    with scope.tenant(endpoint.tenant_id):
        for day in (today - dt.timedelta(days=1), today):
            Attainment.objects.create(
                endpoint_id=endpoint.id, project=endpoint.project, day=day, slo_class="standard", availability="0.995",
                ttft_p95_ms=2000, itl_p95_ms=80, credit_percent=10, requests=100, failed=1, hours=5, ttft_met=4,
                itl_met=5,
            )  # fmt: skip
    (day,) = document(endpoint)["slo_attainment"]
    assert (day["day"], day["requests"], day["failed"], day["hours_ttft_met"]) == (f"{today}", 100, 1, 4)


def test_making_it_is_told_to_the_tenant(endpoint, tenant):
    make(endpoint)
    entry = audit_entries(tenant)[-1]
    assert (entry.action, entry.target_name) == ("evidence.make", "chat")


def test_a_period_that_is_none_is_refused(endpoint):
    today = timezone.now().date()
    for end in (today, today - dt.timedelta(days=1), today + dt.timedelta(days=401)):
        with pytest.raises(Invalid, match="must come after"):
            make(endpoint, end=end)


def test_every_byte_that_is_changed_shows(endpoint):
    files = files_of(make(endpoint))
    for name in NAMES:
        content = files[name]
        # Every byte of what is short, and a spread of those of what is long.
        for place in range(0, len(content), max(1, len(content) // 150)):
            changed = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
            with pytest.raises(Invalid):
                unpack(zipped(files | {name: changed}), keys())


def test_files_that_are_missing_or_more_are_refused(endpoint):
    files = files_of(make(endpoint))
    for wrong in ({name: files[name] for name in NAMES[1:]}, files | {"more.txt": b""}):
        with pytest.raises(Invalid, match="should hold"):
            unpack(zipped(wrong), keys())
    with pytest.raises(Invalid, match="damaged"):
        unpack(b"no zip at all", keys())


def test_a_key_of_somebody_else_does_not_do(endpoint):
    packed = make(endpoint)
    with pytest.raises(Invalid, match="not among those given"):
        unpack(packed, {"1": keys()["1"]})
    with pytest.raises(Invalid, match="not what was signed"):
        unpack(packed, {"2": keys()["1"]})


def test_openssl_verifies_it(endpoint, tmp_path):
    files = files_of(make(endpoint))
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "key.pem").write_text(signing.public_pem(signing.public_keys()[2]))
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "key.pem", "-rawin", "-in", DOCUMENT,
               "-sigfile", f"{DOCUMENT}.sig"]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "Signature Verified Successfully" in done.stdout
    (tmp_path / DOCUMENT).write_bytes(files[DOCUMENT].replace(b"chat", b"chap"))
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0


def test_the_json_is_canonical_and_the_print_is_of_it(endpoint):
    files = files_of(make(endpoint))
    assert canonical(json.loads(files[DOCUMENT])) == files[DOCUMENT]
    assert files["evidence.pdf"].startswith(b"%PDF")


def test_the_command_says_whether_it_is_genuine(endpoint, tmp_path):
    packed = tmp_path / "evidence.zip"
    packed.write_bytes(make(endpoint))
    out = io.StringIO()
    call_command("evidence_verify", str(packed), stdout=out)
    assert "Genuine: nord/chat" in out.getvalue()
    (tmp_path / "key.pem").write_text(signing.public_pem(signing.public_keys()[1]))
    with pytest.raises(CommandError, match="not what was signed"):
        call_command("evidence_verify", str(packed), "--key", f"2:{tmp_path / 'key.pem'}")


def test_without_a_key_nothing_is_made(endpoint, settings):
    settings.SIGNING_KEYS = {}
    with pytest.raises(signing.SigningNotSetUp):
        make(endpoint)


def test_it_is_had_through_rest_by_owners_and_admins(endpoint, tenant):
    path = f"/api/v1/endpoints/{endpoint.id}/evidence"
    today = timezone.now().date()
    days = {"from": f"{today}", "to": f"{today + dt.timedelta(days=1)}"}
    answer = client_of(tenant).get(path, days)
    assert answer.status_code == 200
    assert unpack(answer.content, keys())["generated_by"] == "key owner key"
    assert client_of(tenant, "developer").get(path, days).status_code == 403
    assert client_of(make_tenant("other")).get(path, days).status_code == 404
    for wrong in ({}, {"from": f"{today}"}, days | {"to": "soon"}, days | {"more": "1"}):
        assert client_of(tenant).get(path, wrong).status_code == 422


def test_anybody_may_have_the_public_keys(client):
    found = client.get("/api/v1/evidence-keys").json()["keys"]
    assert [(key["kid"], key["kty"], key["crv"]) for key in found] == [
        ("1", "OKP", "Ed25519"),
        ("2", "OKP", "Ed25519"),
    ]


def test_the_pages_give_it_to_the_tenant_and_to_the_platform(endpoint, client, tenant):
    with scope.tenant(tenant.id):
        owner = Membership.objects.select_related("user").get(role="owner").user
    today = timezone.now().date()
    days = {"first": f"{today}", "last": f"{today}"}
    for user, path in (
        (owner, f"/t/nord/endpoints/{endpoint.id}/evidence"),
        (make_user(platform_role="auditor"), f"/console/endpoints/{endpoint.id}/evidence"),
    ):
        client.force_login(user)
        assert "BEGIN PUBLIC KEY" in client.get(path).text
        answer = client.get(path, days)
        assert unpack(answer.content, keys())["endpoint"]["name"] == "chat"
        assert client.get(path, {"first": "x", "last": ""}).status_code == 422


def files_of(packed: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(packed)) as found:
        return {name: found.read(name) for name in found.namelist()}


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as target:
        for name, content in files.items():
            target.writestr(name, content)
    return out.getvalue()
