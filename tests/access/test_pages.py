"""Every page by every kind of person, asked for and posted to, as the table has it; who is refused changes nothing."""

from __future__ import annotations

import contextlib
import re

import pytest
from django.http import HttpResponse
from django.test import Client
from django.utils.safestring import SafeString

from tests.access import expected
from tests.access.callers import PAGES, Side
from tests.access.conftest import taken_back
from tests.access.operations import Page, account_pages, admin_pages, pages

#: Addresses of the Django admin that lead in and out, whoever comes.
OF_EVERYBODY = {"/admin/login/", "/admin/logout/"}
LOGINS = ("/accounts/login/", "/admin/login/")


def _sorted(groups: dict[str, str]) -> dict[str, str]:
    found = {name.strip(): group for group, names in groups.items() for name in names.split("\n")}
    found.pop("", None)
    return found


GETS = _sorted(expected.PAGES)
POSTS = GETS | _sorted(expected.POSTS)


def test_the_table_names_every_page_and_no_other():
    named = [name.strip() for names in expected.PAGES.values() for name in names.split("\n")]
    assert sorted(filter(None, named)) == sorted({each.name for each in pages()})
    assert set(_sorted(expected.POSTS)) <= set(GETS)


def of_gateways(page: Page) -> bool:
    return page.path.startswith("api/gateway/")


def told(answer) -> str:
    """Say what an answer means: allowed, or how it was refused."""
    assert answer.status_code < 500, answer.content
    if answer.status_code == 302 and answer["Location"].startswith(LOGINS):
        return expected.SIGN_IN
    refusals = {
        401: expected.UNKNOWN,
        403: expected.REFUSED,
        404: expected.HIDDEN,
        405: expected.NO_METHOD,
    }
    return refusals.get(answer.status_code, expected.ALLOWED)


def ask(browser, method: str, url: str):
    with taken_back():
        answer = browser.generic(method, url)
        if answer.streaming:
            b"".join(answer)
    return answer


def _may_be(wanted: str, page: Page, group: str) -> set[str]:
    """Give the answers that are as good as the wanted one."""
    alike = {wanted}
    if wanted == expected.ALLOWED or (wanted == expected.HIDDEN and page.door == "console"):
        alike.add(expected.NO_METHOD)
    if wanted == expected.ALLOWED and page.door == "elsewhere":
        alike.add(expected.SIGN_IN)  # many of these pages lead there when they are done
    if group == "by a link":
        alike.add(expected.HIDDEN)  # nobody here has one
    return alike


@contextlib.contextmanager
def unrendered():
    """Leave templates out: who may see a page is settled before, and it was rendered once for the first who may."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "portal.pages.base.render", lambda *args, status=200, **values: HttpResponse(status=status)
        )
        patch.setattr("portal.pages.base.render_to_string", lambda *args, **values: SafeString(""))
        patch.setattr(
            "portal.pages.failures.defaults.page_not_found",
            lambda *args, **values: HttpResponse(status=404),
        )
        yield


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "page", [each for each in pages() if not of_gateways(each)], ids=lambda each: each.name
)
def test_everybody_is_answered_as_the_table_says(world, callers, before, page, method):
    group = (GETS if method == "GET" else POSTS)[page.name]
    url = page.url(world.ids)
    wanted = {
        caller: expected.page_outcome(group, caller, side, page.parameters.values())
        for caller, side in PAGES.items()
    }
    refused = [caller for caller, outcome in wanted.items() if outcome != expected.ALLOWED]
    answered = {}
    with taken_back(), unrendered():
        for caller in refused:
            answered[caller] = told(callers.quick(caller).generic(method, url))
        if method == "POST" and refused:
            assert world.changed_since(before) == [], "who was refused changed something"
    shown = False
    for caller in wanted.keys() - refused:
        with taken_back(), unrendered() if shown else contextlib.nullcontext():
            answer = callers.quick(caller).generic(method, url)
            if answer.streaming:
                b"".join(answer)
            if method == "GET" and not shown and page.name not in expected.WRITES_WHEN_SHOWN:
                assert world.changed_since(before) == [], "looking changed something"
        answered[caller] = told(answer)
        shown = shown or answered[caller] == expected.ALLOWED
    otherwise = {
        caller: f"{answered[caller]}, not {outcome}"
        for caller, outcome in wanted.items()
        if answered[caller] not in _may_be(outcome, page, group)
    }
    assert otherwise == {}


@pytest.fixture(scope="module")
def before(world, callers):
    return world.digest()


FOREIGN = [
    each
    for each in pages()
    # Months and models of the catalog are not of one tenant.
    if each.door == "tenant" and set(each.parameters.values()) - {"t", "catalog", "kind", "month"}
]


@pytest.mark.parametrize("page", FOREIGN, ids=lambda each: each.name)
def test_an_object_of_another_tenant_is_a_page_that_does_not_exist(world, callers, page):
    """Nord's objects under Other's address: for Other's owner as if there were none, byte for byte but for the id."""
    ids = world.ids | {"t": world.others["t"]}
    mine = next(name for name, kind in page.parameters.items() if kind not in {"t", "endpoints/revisions"})
    browser = callers.quick("stranger")
    theirs, none = page.url(ids), page.url(ids, mine)
    found = set()
    for method in ("GET", "POST"):
        foreign, missing = ask(browser, method, theirs), ask(browser, method, none)
        found.add(foreign.status_code)
        assert foreign.status_code == missing.status_code
        assert same(foreign.content.decode(), theirs) == same(missing.content.decode(), none)
    assert {404} <= found <= {404, 405}  # 405: the page has no such method


def same(text: str, url: str) -> str:
    """Take out what may differ between two answers: the address that was asked for, and what is new each time."""
    return re.sub(r"\b[A-Za-z0-9]{64}\b", "(token)", text.replace(url, "(address)"))


@pytest.mark.parametrize("path", account_pages())
def test_pages_of_signing_in_show_nobody_anything_of_tenants(world, callers, path):
    for caller in ("anonymous", "viewer", "stranger"):
        for method in ("GET", "POST"):
            answer = ask(callers.browser(caller), method, path)
            assert answer.status_code < 500, (caller, method)
            if caller != "viewer" and not answer.streaming:
                assert not [each for each in world.secrets if each in answer.text], (caller, method)


@pytest.mark.parametrize("path", [each for each in admin_pages() if each not in OF_EVERYBODY])
def test_the_django_admin_is_there_for_staff_only(world, callers, path):
    for caller in PAGES:
        if caller != "superuser":
            answer = ask(callers.quick(caller), "GET", path)
            assert told(answer) == expected.SIGN_IN or answer.status_code in (301, 404), (caller, answer)


@pytest.mark.parametrize("page", [each for each in pages() if of_gateways(each)], ids=lambda each: each.name)
def test_gateways_are_known_by_their_token_alone(world, callers, page):
    assert GETS[page.name] == "gateways"
    url = page.url(world.ids)
    tokens = ["", *(f"Bearer {token}" for token in ("nonsense", callers.token("owner")))]
    for method in ("GET", "POST"):
        for caller in PAGES:
            assert ask(callers.quick(caller), method, url).status_code in (401, 405), (caller, method)
        for token in tokens:
            with taken_back():
                answer = Client().generic(method, url, headers={"Authorization": token})
            assert answer.status_code in (401, 405), (token, method)
        with taken_back():
            known = Client().generic(method, url, headers={"Authorization": f"Bearer {world.gateway_token}"})
        assert known.status_code not in (401, 403), method


def test_every_side_is_asked():
    assert set(PAGES.values()) == set(Side)


def test_pages_are_found(world):
    assert {each.door for each in pages()} == {"tenant", "console", "elsewhere"}
    assert isinstance(pages()[0], Page)
