"""Pages of evaluation sets and runs, for tenants and in the console."""

from __future__ import annotations

import pytest

from clusters.endpoints.evaluations.prompts import EXAMPLE, checked
from clusters.endpoints.evaluations.runs import runs_begin
from clusters.endpoints.evaluations.sets import newest_version, set_create
from clusters.endpoints.evaluations.working import run_work
from clusters.models import CatalogModel, EvaluationRun, EvaluationSet, Gateway
from tenants import scope
from tenants.models import PlatformRole
from tests.factories import make_user
from tests.fakes.model_gateway import FakeModelGateway

pytestmark = pytest.mark.django_db

YAML = "- prompt: say a-secret-word\n  checks: [{contains: a-secret-word}, {max_tokens: 2, weight: 3}]\n"


@pytest.fixture
def endpoint(world):
    return world.order("chat")


@pytest.fixture
def asked(world, endpoint):
    """Make a set and have the endpoint asked it; gives the run, worked on with this answer."""

    def asked(answer: str) -> EvaluationRun:
        with scope.tenant(world.tenant.id):
            set_create(
                name="basics", prompts=checked([{
                    "prompt": "say a-secret-word", "checks": [{"contains": "a-secret-word"}, {"max_tokens": 2}],
                }]), actor="a test", tenant_id=world.tenant.id, endpoint=endpoint,
            )  # fmt: skip
            (run,) = runs_begin(endpoint=endpoint, asked_as="mia")
        with FakeModelGateway().running() as fake:
            fake.answer = lambda asked: answer
            Gateway.objects.update(public_url=fake.url)
            run_work(world.tenant.id, run.id)
        return run

    return asked


def page(endpoint, rest: str = "evaluations") -> str:
    return f"/t/nord/endpoints/{endpoint.id}/{rest}"


def test_a_set_is_made_run_and_removed(world, endpoint):
    browser = world.browser("developer")
    empty = browser.get(page(endpoint)).content.decode()
    assert "There is none: such a change goes on without" in empty
    assert "Run now" not in empty
    form = browser.get(page(endpoint, "evaluation-sets/new")).content.decode()
    assert "What is the capital of France?" in form
    assert "every endpoint of ours with" in form
    wrong = browser.post(
        page(endpoint, "evaluation-sets/new"),
        {"name": "basics", "scope": "endpoint", "prompts": "- prompt: a", "pass_percent": "100"},
    )
    assert wrong.status_code == 422
    assert "Prompt 1: Object missing required field `checks`" in wrong.content.decode()
    values = {"name": "basics", "scope": "endpoint", "prompts": YAML, "pass_percent": "25", "most_drop": ""}
    made = browser.post(page(endpoint, "evaluation-sets/new"), values, follow=True).content.decode()
    assert "The set basics is made." in made
    assert "25 % of the weights" in made
    again = browser.post(page(endpoint, "evaluation-sets/new"), values)
    assert again.status_code == 422
    assert "There is an evaluation set of this name already" in again.content.decode()
    assert (
        "Revision 1 is asked its evaluation set."
        in browser.post(page(endpoint), follow=True).content.decode()
    )
    with scope.tenant(world.tenant.id):
        run, found = EvaluationRun.objects.get(), EvaluationSet.objects.get()
    assert run.asked_as == "developer@nord.example"
    removed = browser.post(page(endpoint, f"evaluation-sets/{found.id}/remove"), follow=True).content.decode()
    assert "The set basics is removed." in removed
    assert "basics v1" in removed, "its run is still shown"


def test_a_set_for_the_model_holds_for_other_endpoints_and_changes_make_versions(world, endpoint):
    browser = world.browser("developer")
    values = {"name": "for all", "scope": "model", "prompts": EXAMPLE, "pass_percent": "90", "most_drop": "5"}
    assert browser.post(page(endpoint, "evaluation-sets/new"), values).status_code == 302
    other = world.order("other")
    assert "for all" in browser.get(page(other)).content.decode()
    with scope.tenant(world.tenant.id):
        found = EvaluationSet.objects.get()
    path = page(other, f"evaluation-sets/{found.id}")
    shown = browser.get(path).content.decode()
    assert "What is the capital of France?" in shown
    assert "Save as a new version" in shown
    assert browser.post(path, {**values, "pass_percent": "80"}).status_code == 302
    with scope.tenant(world.tenant.id):
        version = newest_version(EvaluationSet.objects.get())
    assert (version.number, version.pass_percent, version.most_drop, version.compares) == (2, 80, 5, True)
    look = world.browser("viewer").get(path).content.decode()
    assert "Your role may not change it." in look
    assert "Save as a new version" not in look
    assert world.browser("viewer").post(path, values).status_code == 403


def test_a_result_is_shown_without_text_and_waived_with_a_reason(world, endpoint, asked):
    run = asked("no answer that anybody wants")
    path = page(endpoint, f"evaluations/{run.id}")
    shown = world.browser("viewer").get(path).content.decode()
    for text in (
        "basics v1 on revision 1",
        "0 %",
        "Contains a text: failed",
        "The text is not in the answer",
    ):
        assert text in shown
    assert "a-secret-word" not in shown
    assert "Waive" not in shown
    assert world.browser("developer").post(path, {"note": "fine"}).status_code == 403
    owner = world.browser("owner")
    assert "Say why it is accepted." in owner.post(path, {"note": " "}).content.decode()
    waived = owner.post(path, {"note": "We know of it."}, follow=True).content.decode()
    assert "Accepted by owner@nord.example" in waived
    assert "We know of it." in waived
    assert "owner@nord.example" in owner.get(page(endpoint)).content.decode()
    assert owner.post(path, {"note": "again"}).status_code == 409


def test_a_passed_result_can_be_accepted_and_what_does_not_exist_is_missing(world, endpoint, asked):
    run = asked("a-secret-word indeed")
    owner = world.browser("owner")
    path = page(endpoint, f"evaluations/{run.id}")
    assert "Accept the result" in owner.get(path).content.decode()
    accepted = owner.post(path, {"note": "Looked through."}, follow=True).content.decode()
    assert "Passed" in accepted
    other = world.order("other")
    assert owner.get(page(other, f"evaluations/{run.id}")).status_code == 404
    assert world.browser("stranger").get(path).status_code == 404


def test_operators_keep_sets_of_the_catalog(world, client):
    client.force_login(make_user("olga@example.org", platform_role=PlatformRole.OPERATOR))
    model = CatalogModel.objects.get(name="berth-docs-ngram")
    base = f"/console/catalog/{model.name}"
    assert "Evaluation sets" in client.get(base).content.decode()
    values = {"name": "of the platform", "prompts": YAML, "pass_percent": "100", "most_drop": ""}
    made = client.post(f"{base}/evaluation-sets/new", values, follow=True).content.decode()
    assert "The set of the platform is made." in made
    with scope.platform("a test"):
        found = EvaluationSet.objects.get()
    assert found.tenant_id is None
    path = f"{base}/evaluation-sets/{found.id}"
    assert "say a-secret-word" in client.get(path).content.decode()
    saved = client.post(path, {**values, "pass_percent": "50"}, follow=True).content.decode()
    assert "saved as version 2" in saved
    endpoint = world.order("chat")
    seen = world.browser("developer").get(page(endpoint, f"evaluation-sets/{found.id}")).content.decode()
    assert "It is the platform&#x27;s" in seen or "It is the platform's" in seen
    assert (
        world.browser("developer").post(page(endpoint, f"evaluation-sets/{found.id}"), values).status_code
        == 404
    )
    client.post(f"{path}/remove")
    assert client.get(path).status_code == 404
