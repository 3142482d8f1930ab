"""When something breaks, neither the page nor the log nor a mail tells what was sent."""

from __future__ import annotations

import logging
import sys
import types

import pytest
from django.core import mail
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.urls import path
from django.views.debug import ExceptionReporter

from gateway.contract.redaction import RedactingFormatter
from tenants import secret_keys
from tests.gateway.test_redaction import SECRET


def breaks(request) -> HttpResponse:
    local = request.POST.get("password")
    raise RuntimeError(f"Bearer {request.headers.get('X-Key')} {len(local or '')}")


@pytest.fixture
def broken(settings):
    """A site whose one page breaks."""
    module = types.ModuleType("broken_urls")
    module.urlpatterns = [path("broken", breaks)]
    module.handler500 = "portal.api.errors.server_error"
    sys.modules["broken_urls"] = module
    settings.ROOT_URLCONF, settings.ADMINS = "broken_urls", [("Ops", "ops@example.org")]
    yield Client(raise_request_exception=False)
    del sys.modules["broken_urls"]


@pytest.mark.django_db
@pytest.mark.logs_secrets
def test_a_broken_page_tells_nothing_and_mails_nothing(broken, caplog):
    key = secret_keys.generate()
    answer = broken.post(
        "/broken?k=" + key, {"password": SECRET}, headers={"x-key": key, "authorization": f"Bearer {key}"}
    )
    assert answer.status_code == 500
    assert mail.outbox == []
    formatter = RedactingFormatter("%(message)s")
    log = "\n".join(formatter.format(record) for record in caplog.records if record.levelno >= logging.ERROR)
    assert "RuntimeError: Bearer berth_***" in log
    for text in (answer.content.decode(), log):
        assert key not in text
        assert SECRET not in text


def test_a_report_of_an_exception_shows_the_code_and_nothing_of_the_request(settings):
    settings.DEBUG = True
    key = secret_keys.generate()
    request = RequestFactory().post(
        "/broken?k=" + key, {"password": SECRET, "note": SECRET}, headers={"authorization": f"Bearer {key}"}
    )
    request.COOKIES["sessionid"] = SECRET
    try:
        breaks(request)
    except RuntimeError:
        reporter = ExceptionReporter(request, *sys.exc_info())
    frames = [frame for frame in reporter.get_traceback_data()["frames"] if frame["function"] == "breaks"]
    assert frames[0]["vars"]
    data = reporter.get_traceback_data()
    shown = str(data["filtered_POST_items"]) + str(data["request_meta"]) + str(data["request_COOKIES_items"])
    shown += str(frames) + str(data["settings"])
    for secret in (
        SECRET,
        settings.SECRET_KEY,
        settings.SEALING_KEYS[1].hex(),
        str(settings.SEALING_KEYS[1]),
    ):
        assert secret not in shown
    assert key not in str(data["request_meta"]["HTTP_AUTHORIZATION"])
