"""What keys may be narrowed to: networks, verbs, endpoints and projects; and that no key hands out more than it has."""

from __future__ import annotations

import ipaddress
import uuid

import pytest
from django.core.management import call_command
from django.urls import get_resolver

from tenants import scope
from tenants.members import member_add
from tenants.models import ApiKey, Project, Role
from tenants.services import project_create
from tests.api.conftest import client_of
from tests.api.contract import API, assert_problem
from tests.api.orders import ORDER, order
from tests.api.test_authentication import with_header
from tests.api.test_keys import mint

pytestmark = pytest.mark.django_db


def key_client(owner, **changes):
    """Give a client with a management key, and the key."""
    made = mint(owner, **{"scope": "management", "role": "owner", "project": ..., **changes})
    return with_header(f"Bearer {made['key']}"), made


def new_key(**changes) -> dict:
    return {"name": "more", "scope": "management", "role": "viewer", **changes}


@pytest.fixture
def search(tenant) -> Project:
    """A second project."""
    with scope.tenant(tenant.id):
        return project_create(name="Search", slug="search")


class TestNetworks:
    def test_a_key_is_refused_from_elsewhere_and_taken_from_there(self, owner):
        client, _ = key_client(owner, networks=["10.1.0.0/16", "2001:db8::/48"])
        told = assert_problem(client.get(f"{API}/tenant"), 403, "forbidden")["detail"]
        assert "networks" in told
        for address in ("10.1.2.3", "2001:db8::7"):
            assert client.get(f"{API}/tenant", REMOTE_ADDR=address).status_code == 200
        for address in ("10.2.0.1", "2001:db8:1::1", ""):
            assert client.get(f"{API}/tenant", REMOTE_ADDR=address).status_code == 403

    def test_only_named_proxies_say_where_a_request_comes_from(self, owner, settings):
        client, _ = key_client(owner, networks=["10.1.0.0/16"])
        forged = {"HTTP_X_FORWARDED_FOR": "10.1.2.3"}
        assert client.get(f"{API}/tenant", **forged).status_code == 403
        settings.TRUSTED_PROXIES = [ipaddress.ip_network("127.0.0.1")]
        assert client.get(f"{API}/tenant", **forged).status_code == 200

    def test_networks_are_kept_the_usual_way(self, owner):
        made = mint(owner, networks=["10.0.0.1", "2001:DB8:0:0::/32", "::ffff:10.2.0.0/112", "10.0.0.1/32"])
        assert made["networks"] == ["10.0.0.1/32", "2001:db8::/32", "10.2.0.0/16"]

    @pytest.mark.parametrize(
        "network",
        ["10.0.0.1/8", "10.0.0.0/33", "10.0.0", "example.org", "", "fe80::1%eth0", "010.0.0.1", "/0"],
    )
    def test_what_is_no_network_is_named(self, owner, network):
        body = {"name": "ci", "scope": "inference", "project": "default", "networks": [network]}
        assert list(assert_problem(owner.post(f"{API}/keys", body), 422, "invalid")["errors"]) == ["networks"]

    def test_there_are_at_most_fifty(self, owner):
        many = [f"10.0.{number}.0/24" for number in range(51)]
        assert len(mint(owner, networks=many[:50])["networks"]) == 50
        body = {"name": "ci", "scope": "inference", "project": "default", "networks": many}
        assert_problem(owner.post(f"{API}/keys", body), 422, "invalid")

    def test_where_a_management_key_was_used_from_is_told(self, owner):
        client, made = key_client(owner)
        client.get(f"{API}/tenant", REMOTE_ADDR="10.9.8.7")
        shown = owner.get(f"{API}/keys/{made['id']}").json()
        assert shown["last_used_from"] == "10.9.8.7"
        assert shown["last_used_at"] is not None


class TestVerbs:
    def test_a_key_may_no_more_than_its_verbs_and_its_role(self, owner):
        client, _ = key_client(owner, verbs=["view", "manage-projects"])
        assert client.get(f"{API}/projects").status_code == 200
        assert client.post(f"{API}/projects", {"slug": "a", "name": "A"}).status_code == 201
        told = assert_problem(client.post(f"{API}/keys", new_key()), 403, "forbidden")["detail"]
        assert "mint keys" in told
        assert "view, manage-projects" in told
        viewer, _ = key_client(owner, role="viewer", verbs=["view", "manage-projects"])
        refused = assert_problem(viewer.post(f"{API}/projects", {"slug": "b", "name": "B"}), 403, "forbidden")
        assert "role viewer" in refused["detail"]

    def test_a_change_of_verbs_holds_at_once(self, owner):
        client, made = key_client(owner, verbs=["view"])
        body = {"slug": "a", "name": "A"}
        assert client.post(f"{API}/projects", body).status_code == 403
        assert owner.patch(f"{API}/keys/{made['id']}", {"verbs": []}).status_code == 200
        assert client.post(f"{API}/projects", body).status_code == 201

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"verbs": ["chat"]}, "verbs"),
            ({"scope": "inference", "project": "default", "role": ..., "verbs": ["view"]}, "verbs"),
            ({"endpoints": [str(uuid.uuid4())]}, "endpoints"),
            ({"scope": "inference", "project": "default", "role": ..., "endpoints": [str(uuid.uuid4())]}, "endpoints"),
            ({"scope": "inference", "project": "default", "role": ..., "projects": [str(uuid.uuid4())]}, "projects"),
            ({"projects": [str(uuid.uuid4())]}, "projects"),
        ],
    )  # fmt: skip
    def test_what_does_not_go_with_the_purpose_is_named(self, owner, changes, field):
        body = {name: value for name, value in (new_key() | changes).items() if value is not ...}
        assert list(assert_problem(owner.post(f"{API}/keys", body), 422, "invalid")["errors"]) == [field]


class TestProjects:
    def test_another_projects_objects_read_as_missing(self, owner, estate, search, tenant):
        client, _ = key_client(owner, role="admin", projects=[str(search.id)])
        mine = order(owner, "mine", project="search")["id"]
        theirs = order(owner, "theirs")["id"]
        key = mint(owner)["id"]
        target = [{"targets": [{"endpoint_id": theirs}]}]
        route = owner.post(f"{API}/routes", {"name": "r", "project": "default", "rules": target}).json()["id"]
        assert [each["id"] for each in client.get(f"{API}/endpoints").json()["results"]] == [mine]
        assert [each["slug"] for each in client.get(f"{API}/projects").json()["results"]] == ["search"]
        prompts = [{"prompt": "Hello", "checks": [{"contains": "hello"}]}]
        of_theirs = {"name": "asked", "endpoint_id": theirs, "prompts": prompts}
        asking = owner.post(f"{API}/evaluation-sets", of_theirs).json()["id"]
        for path in ("keys", "routes", "evaluation-sets", "evaluations"):
            assert client.get(f"{API}/{path}").json()["results"] == []
        missing = client.get(f"{API}/endpoints/{uuid.uuid4()}")
        for path in (
            f"endpoints/{theirs}", f"endpoints/{theirs}/signals", f"endpoints/{theirs}/events", f"keys/{key}",
            f"routes/{route}", f"routes/{route}/costs", f"endpoints/{theirs}/load",
            f"endpoints/{theirs}/evidence?from=2026-01-01&to=2026-02-01", f"endpoints/{theirs}/rollouts",
            f"endpoints/{theirs}/autoscaling", f"endpoints/{theirs}/scaling-decisions", f"endpoints/{theirs}/trace",
            f"evaluation-sets/{asking}", f"endpoints/{theirs}/schedules",
            f"endpoints/{theirs}/schedules/{uuid.uuid4()}",
        ):  # fmt: skip
            found = client.get(f"{API}/{path}")
            assert (found.status_code, found.content) == (404, missing.content), path
        assert client.get(f"{API}/endpoints/{mine}").status_code == 200
        for path in (
            f"keys/{key}:revoke", f"keys/{key}:rotate", f"endpoints/{theirs}:pause", f"endpoints/{theirs}:ask-again",
            f"endpoints/{theirs}:change", f"endpoints/{theirs}:gate", f"endpoints/{theirs}/evaluations",
        ):  # fmt: skip
            assert client.post(f"{API}/{path}").status_code == 404
        assert client.delete(f"{API}/endpoints/{theirs}").status_code == 404
        swept = {"dry_run": False, "ids": [key]}
        assert_problem(client.post(f"{API}/keys:revoke-many", swept), 404, "not-found")
        assert owner.get(f"{API}/keys/{key}").json()["state"] == "active"

    def test_nothing_can_be_made_in_or_aimed_at_another_project(self, owner, estate, search):
        client, _ = key_client(owner, role="admin", projects=[str(search.id)])
        theirs = order(owner, "theirs")["id"]
        mine = order(client, "mine", project="search")["id"]
        for path, body in (
            ("endpoints", {**ORDER, "name": "more"}),
            ("endpoints:plan", {**ORDER, "name": "more"}),
            ("keys", {"name": "k", "scope": "inference", "project": "default"}),
            (
                "routes",
                {"name": "r", "project": "default", "rules": [{"targets": [{"endpoint_id": theirs}]}]},
            ),
        ):
            errors = assert_problem(client.post(f"{API}/{path}", body), 422, "invalid")["errors"]
            assert list(errors) == ["project"], path
        aimed = {"name": "r", "project": "search", "rules": [{"targets": [{"endpoint_id": theirs}]}]}
        assert "rules" in assert_problem(client.post(f"{API}/routes", aimed), 422, "invalid")["errors"]
        falls = client.patch(f"{API}/endpoints/{mine}", {"fallbacks": [theirs]})
        assert "fallbacks" in assert_problem(falls, 422, "invalid")["errors"]
        assert (
            client.post(f"{API}/keys", {"name": "k", "scope": "inference", "project": "search"}).status_code
            == 201
        )

    def test_usage_and_cost_are_those_of_its_projects(self, owner, search, tenant):
        client, _ = key_client(owner, projects=[str(search.id)])
        with scope.tenant(tenant.id):
            other = Project.objects.get(slug="default").id
        for path in ("usage", "costs"):
            assert client.get(f"{API}/{path}?group_by=project_id").status_code == 200
            assert_problem(client.get(f"{API}/{path}?project_ids={other}"), 404, "not-found")

    def test_what_belongs_to_the_whole_tenant_is_refused(self, owner, search):
        client, _ = key_client(owner, projects=[str(search.id)])
        for path in (
            "tenant", "quotas", "members", "webhooks", "service-accounts", "budgets", "statements", "allocations",
            "commitments", "credits", "slo-attainment", "prices",
        ):  # fmt: skip
            told = assert_problem(client.get(f"{API}/{path}"), 403, "forbidden")["detail"]
            assert "limited to some projects" in told, path
        assert_problem(client.post(f"{API}/projects", {"slug": "a", "name": "A"}), 403, "forbidden")
        for path in ("models", "slo-classes", "regions", "profiles", "shared-endpoints"):
            assert client.get(f"{API}/{path}").status_code == 200

    def test_every_view_says_how_it_is_narrowed_or_refuses(self):
        """Views that show a tenant's rows to narrowed keys are exactly those that the tests above go through."""
        open_views = {
            view.cls.__name__
            for view in _views(get_resolver().url_patterns)
            if getattr(view.cls, "project_field", None) is not None
        }
        assert open_views == {
            "ProjectViewSet", "LimitedKeyViewSet", "EndpointViewSet", "RevisionViewSet", "LoadViewSet",
            "SignalViewSet", "RouteViewSet", "UsageView", "CostView", "CatalogModelViewSet", "SloClassViewSet",
            "RegionViewSet", "ProfileView", "SharedEndpointView", "AskAgainViewSet", "EvidenceViewSet",
            "AutoscalingViewSet", "EndpointEvaluationViewSet", "EvaluationSetViewSet", "EvaluationViewSet",
            "GateViewSet", "RolloutViewSet", "ScheduleViewSet", "TraceViewSet",
        }  # fmt: skip


def _views(patterns):
    for each in patterns:
        if hasattr(each, "url_patterns"):
            yield from _views(each.url_patterns)
        elif hasattr(each.callback, "cls"):
            yield each.callback


class TestNoKeyHandsOutMoreThanItHas:
    def test_verbs(self, owner, tenant):
        client, mine = key_client(owner, role="admin", verbs=["view", "mint-keys"])
        wider = assert_problem(client.post(f"{API}/keys", new_key(role="admin")), 403, "forbidden")
        assert "verbs" in wider["detail"]
        made = client.post(f"{API}/keys", new_key(role="admin", verbs=["view"]))
        assert made.status_code == 201, made.content
        path = f"{API}/keys/{made.json()['id']}"
        assert_problem(client.patch(path, {"verbs": []}), 403, "forbidden")
        assert_problem(client.patch(f"{API}/keys/{mine['id']}", {"verbs": []}), 403, "forbidden")
        held = mint(owner, scope="management", role="admin", project=...)
        assert_problem(client.post(f"{API}/keys/{held['id']}:rotate"), 403, "forbidden")
        assert_problem(client.patch(f"{API}/keys/{held['id']}", {"name": "x"}), 403, "forbidden")

    def test_networks(self, owner):
        client, _ = key_client(owner, networks=["127.0.0.0/8"])
        for networks in ([], ["10.0.0.0/8"], ["127.0.0.0/7", "127.0.0.1"]):
            sent = {"name": "k", "scope": "inference", "project": "default", "networks": networks}
            assert client.post(f"{API}/keys", sent).status_code in (403, 422)
        sent = {"name": "k", "scope": "inference", "project": "default", "networks": ["127.0.0.1"]}
        assert client.post(f"{API}/keys", sent).status_code == 201

    def test_roles_of_people(self, owner, tenant):
        client, _ = key_client(owner, verbs=["view", "manage-members"])
        with scope.tenant(tenant.id):
            member = member_add(email="ada@acme.example", role=Role.VIEWER, granter_role=Role.OWNER)
        told = assert_problem(
            client.patch(f"{API}/members/{member.id}", {"role": "owner"}), 403, "forbidden"
        )["detail"]
        assert "hands out no role that may" in told
        body = {"email": "bea@acme.example", "role": "developer"}
        assert_problem(client.post(f"{API}/invitations", body), 403, "forbidden")
        sent = owner.post(f"{API}/invitations", body).json()["id"]
        assert_problem(client.post(f"{API}/invitations/{sent}:resend"), 403, "forbidden")
        lower = {"email": "cid@acme.example", "role": "viewer"}
        assert client.post(f"{API}/invitations", lower).status_code == 201

    def test_projects(self, owner, search):
        client, _ = key_client(owner, projects=[str(search.id)])
        refused = assert_problem(client.post(f"{API}/keys", new_key()), 403, "forbidden")
        assert "inference keys only" in refused["detail"]


@pytest.mark.usefixtures("estate")
def test_an_inference_key_is_limited_to_what_its_project_can_call(owner, search, tenant):
    mine = order(owner, "mine")["id"]
    theirs = order(owner, "theirs", project="search")["id"]
    made = mint(owner, endpoints=[mine], verbs=["chat", "models"])
    assert (made["endpoints"], made["verbs"]) == ([mine], ["chat", "models"])
    body = {"name": "ci", "scope": "inference", "project": "default", "endpoints": [theirs]}
    assert list(assert_problem(owner.post(f"{API}/keys", body), 422, "invalid")["errors"]) == ["endpoints"]
    path = f"{API}/keys/{made['id']}"
    assert_problem(owner.patch(path, {"endpoints": [theirs]}), 422, "invalid")
    assert owner.patch(path, {"endpoints": []}).json()["endpoints"] == []
    viewer = client_of(tenant, Role.VIEWER)
    assert_problem(viewer.patch(path, {"endpoints": []}), 403, "forbidden")


def test_a_key_of_an_older_pepper_goes_on_under_the_newest(owner, tenant, settings):
    client, made = key_client(owner)
    settings.KEY_PEPPERS = {**settings.KEY_PEPPERS, 9: bytes.fromhex("cd" * 32)}
    assert client.get(f"{API}/tenant").status_code == 200
    with scope.tenant(tenant.id):
        assert ApiKey.objects.get(id=made["id"]).pepper_id == 9
    settings.KEY_PEPPERS = {9: settings.KEY_PEPPERS[9]}
    assert client.get(f"{API}/tenant").status_code == 200


def test_the_operator_sees_which_peppers_are_needed(owner, tenant, settings, capsys):
    mint(owner)
    first = settings.KEY_PEPPERS
    settings.KEY_PEPPERS = {**first, 8: bytes.fromhex("ce" * 32), 9: bytes.fromhex("cd" * 32)}
    mint(owner)
    call_command("key_peppers")
    told = capsys.readouterr().out
    assert "pepper 1: 1 inference keys" in told
    assert "pepper 9: 1 inference keys" in told
    assert "pepper 9: 1 management keys" in told  # it was used to make the second key
    assert "pepper 8: no keys; it can be taken out" in told
    settings.KEY_PEPPERS = {9: settings.KEY_PEPPERS[9]}
    call_command("key_peppers")
    assert "pepper 1, which is not set: nobody can use them: 1 inference keys" in capsys.readouterr().out
