"""A scope ends with its block: in streams, after a commit, in other threads, in the next task, in async code."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from asgiref.sync import sync_to_async
from django.db import DatabaseError, connection, connections, transaction
from django.db.models import Count
from django.http import HttpResponse, StreamingHttpResponse
from django.test import RequestFactory

from portal.celery import app
from portal.pages.base import ConsolePage, TenantPage
from tenants import scope
from tenants.across import across_tenants
from tenants.models import PlatformRole, Project
from tenants.roles import PlatformAction
from tests.factories import default_project, make_tenant, make_user


def settings_of_the_connection() -> set[str | None]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('berth.tenant', true), current_setting('berth.platform', true)"
        )
        return set(cursor.fetchone())


class Streamed(TenantPage):
    """Answers with a stream whose rows are read after the scope has ended."""

    def get(self, request, slug):
        rows = Project.objects.all()
        return StreamingHttpResponse(each.name for each in [rows] for each in rows)


class ConsoleStream(ConsolePage):
    action = PlatformAction.VIEW_ESTATE

    def get(self, request):
        return StreamingHttpResponse(str(Project.objects.count()) for _ in range(1))


def ask(page, user, **parts):
    request = RequestFactory().get("/somewhere")
    request.user, request.htmx = user, False
    return page.as_view()(request, **parts)


def test_a_stream_of_a_page_reads_nothing_after_its_scope(db):
    owner = make_user()
    make_tenant("one", owner=owner)
    answer = ask(Streamed, owner, slug="one")
    with pytest.raises(scope.ScopeError, match="outside a tenant scope"):
        list(answer)


def test_a_stream_of_the_console_reads_nothing_after_its_scope(db):
    make_tenant("one")
    answer = ask(ConsoleStream, make_user(platform_role=PlatformRole.OPERATOR))
    with pytest.raises(scope.ScopeError):
        list(answer)


READS = {
    "all": list,
    "count": lambda rows: rows.count(),
    "exists": lambda rows: rows.exists(),
    "first": lambda rows: rows.first(),
    "aggregate": lambda rows: rows.aggregate(found=Count("id")),
    "iterator": lambda rows: list(rows.iterator()),
    "values": lambda rows: list(rows.values_list("id")),
    "union": lambda rows: list(rows.union(rows)),
    "update": lambda rows: rows.update(name="x"),
    "delete": lambda rows: rows._raw_delete("default"),
    "delete with what hangs on it": lambda rows: rows.delete(),
    "inside another": lambda rows: list(Project.objects.filter(id__in=rows)),
}


@pytest.mark.parametrize("read", READS)
def test_a_query_that_was_made_in_a_scope_is_run_in_no_other(db, read):
    one, two = make_tenant("one"), make_tenant("two")
    with scope.tenant(one.id):
        rows = Project.objects.all()
    with pytest.raises(scope.ScopeError):
        READS[read](rows)
    with scope.tenant(two.id), pytest.raises(scope.ScopeError, match="another's"):
        READS[read](rows)
    with scope.tenant(one.id):
        assert rows.count() == 1


def test_the_platform_may_run_a_query_that_was_made_for_a_tenant(db):
    one = make_tenant("one")
    make_tenant("two")
    with scope.tenant(one.id):
        rows = Project.objects.all()
    with scope.platform("a test"):
        assert [each.tenant_id for each in rows] == [one.id]


def test_an_empty_query_needs_no_scope(db):
    assert list(Project.objects.none()) == []


def test_what_waits_for_the_commit_runs_in_no_scope(committed_db):
    told: list[object] = []

    def look():
        told.append(settings_of_the_connection())
        try:
            Project.objects.count()
        except scope.ScopeError as error:
            told.append(error)

    tenant = make_tenant("one")
    for opened in (lambda: scope.tenant(tenant.id), lambda: scope.platform("a test")):
        with transaction.atomic(), opened():
            transaction.on_commit(look)
        with opened():
            transaction.on_commit(look)
    assert len(told) == 8
    assert all(set(each) <= {"", None} for each in told[::2])
    assert all(isinstance(each, scope.ScopeError) for each in told[1::2])


def test_what_waits_for_the_commit_may_open_a_scope_of_its_own(committed_db):
    one, two = make_tenant("one"), make_tenant("two")
    seen: list[object] = []

    def look():
        with scope.tenant(two.id):
            seen.append(Project.objects.get().tenant_id)

    with scope.tenant(one.id):
        transaction.on_commit(look)
    assert seen == [two.id]
    assert settings_of_the_connection() <= {"", None}


def test_a_scope_that_ends_in_an_error_leaves_nothing_behind(committed_db):
    tenant = make_tenant("one")
    with pytest.raises(ZeroDivisionError), scope.tenant(tenant.id):
        raise ZeroDivisionError
    with pytest.raises(DatabaseError), scope.platform("a test"), connection.cursor() as cursor:
        cursor.execute("SELECT 1 / 0")
    assert settings_of_the_connection() <= {"", None}
    with pytest.raises(scope.ScopeError):
        scope.current()


def test_another_thread_starts_in_no_scope(committed_db):
    tenant = make_tenant("one")
    told: list[object] = []

    def look():
        try:
            told.append(scope.current())
        except scope.ScopeError as error:
            told.append(error)

    with scope.tenant(tenant.id):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    assert isinstance(told[0], scope.ScopeError)


def test_a_scope_that_is_carried_into_another_thread_is_not_open_there(committed_db):
    tenant = make_tenant("one")

    def look():
        try:
            return Project.objects.count()
        finally:
            connections.close_all()

    with scope.tenant(tenant.id), ThreadPoolExecutor(1) as pool:
        with pytest.raises(scope.ScopeError, match="another thread"):
            pool.submit(contextvars.copy_context().run, look).result()
        assert Project.objects.count() == 1


def test_async_code_gets_no_scope_back_from_its_threads(committed_db):
    one, two = make_tenant("one"), make_tenant("two")

    def slug_of(tenant):
        try:
            with scope.tenant(tenant.id):
                return Project.objects.select_related("tenant").get().tenant.slug
        finally:
            connection.close()

    async def ask_for(tenant):
        found = [await sync_to_async(slug_of, thread_sensitive=False)(tenant) for _ in range(5)]
        with pytest.raises(scope.ScopeError):
            scope.current()
        return set(found)

    async def both():
        return await asyncio.gather(*(ask_for(each) for each in (one, two) * 3))

    assert asyncio.run(both()) == [{"one"}, {"two"}] * 3


def test_a_task_gets_no_scope_from_the_task_before_it(committed_db):
    tenant = make_tenant("one")

    @app.task(name="tests.opens_and_fails")
    def opens_and_fails(tenant_id):
        with scope.tenant(tenant_id):
            assert Project.objects.count() == 1
            raise ZeroDivisionError

    @app.task(name="tests.looks")
    def looks():
        return Project.objects.count()

    try:
        assert isinstance(opens_and_fails.apply([str(tenant.id)]).result, ZeroDivisionError)
        assert isinstance(looks.apply().result, scope.ScopeError)
        assert settings_of_the_connection() <= {"", None}
    finally:
        app.tasks.unregister("tests.opens_and_fails")
        app.tasks.unregister("tests.looks")


def test_a_person_who_looks_across_tenants_is_written_down_once_an_hour(committed_db, caplog):
    person = make_user("olga@example.org", platform_role=PlatformRole.OPERATOR)
    make_tenant("one")
    caplog.set_level("INFO", "berth.operator")
    for what in ("GET /console/", "GET /console/", "GET /console/tenants"):
        with across_tenants(person, what=what, reason="a test"):
            assert Project.objects.count() == 1
    told = [each.message for each in caplog.records if "olga@example.org" in each.message]
    assert told == [
        "operator=olga@example.org read=GET /console/ reason='a test'",
        "operator=olga@example.org read=GET /console/tenants reason='a test'",
    ]


def test_what_was_rolled_back_is_written_down_the_next_time(committed_db, caplog):
    person = make_user("olga@example.org", platform_role=PlatformRole.OPERATOR)
    caplog.set_level("INFO", "berth.operator")
    with pytest.raises(ZeroDivisionError), across_tenants(person, what="a page", reason="a test"):
        raise ZeroDivisionError
    assert "read=a page" not in caplog.text
    with across_tenants(person, what="a page", reason="a test"):
        pass
    assert "read=a page" in caplog.text


@pytest.mark.parametrize("wrong", [{"what": " ", "reason": "a test"}, {"what": "a page", "reason": " "}])
def test_nobody_looks_across_tenants_without_saying_what_and_why(db, wrong):
    with pytest.raises(scope.ScopeError, match="Say"), across_tenants(make_user(), **wrong):
        pass


def test_the_files_of_a_statement_are_whole_when_their_scope_ends(db):
    from billing.documents.downloads import FORMATS, statement_file
    from tests.billing.statements import every_kind

    tenant = make_tenant("one")
    statement = every_kind(tenant, default_project(tenant))
    for kind in FORMATS:
        with scope.tenant(tenant.id):
            answer = statement_file(statement, kind)
        assert len(b"".join(answer)) == int(answer["Content-Length"]) > 0


def test_an_answer_that_is_no_stream_is_rendered_inside(db):
    class Whole(TenantPage):
        def get(self, request, slug):
            return HttpResponse(Project.objects.get().name)

    owner = make_user()
    make_tenant("one", owner=owner)
    assert ask(Whole, owner, slug="one").content == b"Default"
