"""The console's page of people, the command for the first of them, and what an operator of some clusters finds."""

from __future__ import annotations

import io
import re

import pytest
from django.contrib import admin
from django.core.management import CommandError, call_command
from django.test import RequestFactory
from django.urls import reverse

from clusters.endpoints import services
from clusters.inventory.gateways import gateway_register
from clusters.models import Endpoint, Gateway, OperatorCluster, Replica, Revision
from tenants import scope
from tenants.models import PlatformRole, User
from tests.factories import default_project, make_user
from tests.portal.console.test_platform_roles import browser


@pytest.fixture
def operator(db):
    return make_user("root@example.org", is_superuser=True, is_staff=True)


@pytest.fixture
def narrowed(estate):
    """A browser of the operator of ``de-a`` alone."""
    user = make_user("nora@example.org", platform_role=PlatformRole.OPERATOR)
    OperatorCluster.objects.create(user=user, cluster=estate.clusters["de-a"])
    return browser(user)


def order(estate, acme, cluster: str, region: str) -> Endpoint:
    with scope.tenant(acme.id):
        endpoint = services.endpoint_order(
            project=default_project(acme), name=f"on-{cluster}",
            terms=estate.terms(residency=f"region:{region}"), actor="ann@example.org",
        )  # fmt: skip
    with scope.platform("look in a test"):
        assert Revision.objects.get(endpoint=endpoint).cluster.name == cluster
    return endpoint


@pytest.fixture
def here(estate, acme):
    return order(estate, acme, "de-a", "eu-de-1")


@pytest.fixture
def there(estate, acme):
    return order(estate, acme, "us-a", "us-east-1")


def test_a_person_is_added_narrowed_and_let_go(console, estate):
    answer = console.post(
        reverse("console:person-add"),
        {"email": "new@example.org", "role": "operator", "answers_for": "some", "clusters": ["de-a"]},
        follow=True,
    )
    assert "new@example.org is operator now" in answer.text
    person = User.objects.get(email="new@example.org")
    assert "de-a" in console.get(reverse("console:people")).text
    page = console.get(reverse("console:person", args=[person.id]))
    assert page.context["form"].initial["answers_for"] == "some"
    console.post(
        reverse("console:person", args=[person.id]),
        {"role": "operator", "answers_for": "all", "clusters": ["de-a"]},
    )
    assert not person.operated.exists()
    remove = reverse("console:person-remove", args=[person.id])
    assert console.get(remove).status_code == 200
    assert "no role of the platform any more" in console.post(remove, follow=True).text
    assert User.objects.get(id=person.id).acts_as == ""


def test_an_operator_of_some_clusters_needs_at_least_one(console, estate):
    body = {"email": "new@example.org", "role": "operator", "answers_for": "some"}
    answer = console.post(reverse("console:person-add"), body)
    assert answer.status_code == 422
    assert "Name at least one cluster" in answer.text
    assert not User.objects.filter(email="new@example.org").exists()


def test_nobody_takes_their_own_role_away(console, operator):
    answer = console.post(reverse("console:person-remove", args=[operator.id]))
    assert answer.status_code == 409
    assert "own role" in answer.text
    operator.refresh_from_db()
    assert operator.is_superuser


def test_the_lists_of_an_operator_hold_their_clusters_alone(narrowed, here, there):
    clusters = narrowed.get(reverse("console:clusters"))
    assert [row["cluster"].name for row in clusters.context["clusters"]] == ["de-a"]
    assert [region.code for region in clusters.context["regions"]] == ["eu-de-1"]
    assert [each.name for each in narrowed.get(reverse("console:endpoints")).context["endpoints"]] == [
        "on-de-a"
    ]
    for page in (
        "home",
        "report-fragmentation",
        "report-utilization",
        "report-savings",
        "endpoints",
        "gateways",
    ):
        assert "us-a" not in narrowed.get(reverse(f"console:{page}")).text, page


def test_what_is_elsewhere_is_not_there(narrowed, here, there, estate):
    with scope.platform("look in a test"):
        replica = Replica.objects.create(
            tenant_id=there.tenant_id, endpoint=there, revision=Revision.objects.get(endpoint=there), index=0,
            replica_id="one-over-there",
        )  # fmt: skip
    gateway_register(name="gw-us", region=estate.clusters["us-a"].region)
    Gateway.objects.filter(name="gw-us").update(cluster=estate.clusters["us-a"])
    paths = [
        reverse("console:cluster", args=["us-a"]),
        reverse("console:cluster-cordon", args=["us-a"]),
        reverse("console:cluster-remove", args=["us-a"]),
        reverse("console:cluster-lost", args=["us-a"]),
        reverse("console:pool-add", args=["us-a"]),
        reverse("console:pool-change", args=["us-a", "l4"]),
        reverse("console:gateway", args=["gw-us"]),
        reverse("console:gateway-token", args=["gw-us"]),
        reverse("console:gateway", args=["gw-de"]),  # others run it, for all clusters of the region
        reverse("console:endpoint", args=[there.id]),
        reverse("console:endpoint-move", args=[there.id]),
        reverse("console:endpoint-revision", args=[there.id, 1]),
        reverse("console:endpoint-restore", args=[there.id, 1]),
        reverse("console:endpoint-log", args=[there.id, replica.replica_id]),
        reverse("console:endpoint-log", args=[here.id, replica.replica_id]),
    ]
    for path in paths:
        assert narrowed.get(path).status_code == 404, path
    for path in paths[1:6]:
        assert narrowed.post(path, {"reason": "mine", "confirm": "us-a"}).status_code == 404, path
    estate.clusters["us-a"].refresh_from_db()
    assert estate.clusters["us-a"].state == "active"


def test_filters_and_forms_offer_and_take_no_other_cluster(narrowed, here, there):
    filters = narrowed.get(reverse("console:endpoints")).context["filters"]
    assert [each.name for each in filters.fields["cluster"].queryset] == ["de-a"]
    for asked in ("cluster=us-a", "cluster=nowhere"):
        assert narrowed.get(f"{reverse('console:endpoints')}?{asked}").status_code == 422
    move = reverse("console:endpoint-move", args=[here.id])
    for cluster in ("us-a", "nowhere", ""):
        answer = narrowed.post(move, {"cluster": cluster})
        assert answer.status_code == 422, cluster
        assert answer.context["form"].errors["cluster"]
    with scope.platform("look in a test"):
        assert Endpoint.objects.get(id=here.id).cluster is None


def test_of_an_endpoint_that_moved_only_what_ran_here_is_shown(console, narrowed, estate, acme):
    with scope.tenant(acme.id):
        endpoint = services.endpoint_order(
            project=default_project(acme), name="wanders", terms=estate.terms(residency="region:eu-fi-1"),
            actor="ann@example.org",
        )  # fmt: skip
        Endpoint.objects.filter(id=endpoint.id).update(residency="zone:EU")
    path = reverse("console:endpoint", args=[endpoint.id])
    assert narrowed.get(path).status_code == 404
    console.post(reverse("console:endpoint-move", args=[endpoint.id]), {"cluster": "de-a"})
    shown = narrowed.get(path)
    assert [each["revision"].number for each in shown.context["revisions"]] == [2]
    assert narrowed.get(reverse("console:endpoint-revision", args=[endpoint.id, 2])).status_code == 200
    assert narrowed.get(reverse("console:endpoint-revision", args=[endpoint.id, 1])).status_code == 404
    assert narrowed.post(reverse("console:endpoint-restore", args=[endpoint.id, 1])).status_code == 404


def test_the_first_person_is_made_by_command(estate):
    told = io.StringIO()
    call_command("platform_person", email="Olga@example.org", role="operator", cluster=["de-a"], stdout=told)
    olga = User.objects.get(email="olga@example.org")
    assert (olga.acts_as, olga.has_usable_password()) == ("operator", False)
    assert "olga@example.org is operator of de-a now." in told.getvalue()
    call_command("platform_person", email="olga@example.org", role="superuser", stdout=told)
    assert User.objects.get(id=olga.id).acts_as == "superuser"
    assert not olga.operated.exists()
    with pytest.raises(CommandError, match="last superuser"):
        call_command("platform_person", "--email", "olga@example.org", "--none")
    with pytest.raises(CommandError, match="known are de-a"):
        call_command("platform_person", email="a@example.org", role="operator", cluster=["nowhere"])
    assert not User.objects.filter(email="a@example.org").exists()


def test_the_django_admin_is_for_superusers_and_keeps_the_last_of_them(console, operator):
    staff = browser(make_user("staff@example.org", is_staff=True, platform_role=PlatformRole.OPERATOR))
    assert staff.get(reverse("admin:index")).status_code == 302
    path = reverse("admin:tenants_user_change", args=[operator.id])
    assert console.get(path).status_code == 200
    kept = console.post(path, {"name": "Root"})  # the box for active is not ticked
    assert "last superuser" in kept.text
    operator.refresh_from_db()
    assert operator.is_active
    auditor = make_user("aude@example.org", platform_role=PlatformRole.AUDITOR)
    path = reverse("admin:tenants_user_change", args=[auditor.id])
    console.post(path, {"name": "Aude", "platform_role": "operator", "is_superuser": "on"})
    auditor.refresh_from_db()
    assert (auditor.is_active, auditor.platform_role, auditor.is_superuser) == (False, "auditor", False)


def test_the_django_admin_shows_no_secret(operator):
    asked = RequestFactory().get("/admin/")
    asked.user = operator
    hidden = re.compile(r"password|digest|token(?!s|_timeout)|credentials$|secret|sealed|body|prompt")
    for model, page in admin.site._registry.items():
        with scope.platform("forms offer rows of all tenants"):
            shown = {*page.get_fields(asked, None), *page.get_list_display(asked)}
        secret = {name for name in shown if isinstance(name, str) and hidden.search(name)}
        assert not secret, f"{model.__name__} shows {secret}"
