"""Secrets are masked on their way into a log, in every form in which they come; what is no secret stays."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys

import pytest

from gateway.contract.redaction import RedactingFormatter, masked
from tenants import secret_keys

KEY = "berth_" + "aB3" * 14
SECRET = "c4nary-" + "s" * 20
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0aaaaaaaa.c2lnbmF0dXJl" + "x" * 20


@pytest.mark.parametrize(
    "line",
    [
        f"key {KEY} is unknown",
        f"GET /v1/models?x={KEY}&y=1",
        f"berth_gateway_{'Z' * 43} was refused",
        f"Authorization: Bearer {SECRET}",
        f"authorization=bearer  {SECRET}",
        f"{{'Authorization': 'Bearer {SECRET}'}}",
        f"Basic {SECRET}==",
        f"cannot connect to postgresql://berth_app:{SECRET}@db:5432/berth",
        f"redis://:{SECRET}@cache:6379/0 does not answer",
        f"amqps://me:{SECRET}@broker//",
        f'{{"client_secret": "{SECRET}", "name": "x"}}',
        f"{{'password': '{SECRET}', 'email': 'x'}}",
        f'{{"token": "{SECRET} with blanks and \\" quotes"}}',
        f"password={SECRET}&email=x",
        f"HF_TOKEN={SECRET}",
        f"PUT secret_id={SECRET}",
        f"GET /invitations/{SECRET}",
        f"https://berth.example/decide/{SECRET}?x",
        f"/accounts/password/reset/key/3-{SECRET}/",
        f"whsec_{SECRET.replace('-', '+')}=",
        f"hvs.{SECRET} was revoked",
        f"token: {JWT}",
        f"signed eyJhIjoxfQ:1vAbCd:{SECRET}{'q' * 10}",
        f"-----BEGIN EC PRIVATE KEY-----\n{SECRET}\n-----END EC PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\n{SECRET} cut off",
    ],
)
def test_what_looks_like_a_secret_is_masked(line):
    found = masked(line)
    assert "***" in found
    for part in (KEY, "Z" * 43, SECRET, SECRET.replace("-", "+"), JWT):
        assert part not in found


@pytest.mark.parametrize(
    "line",
    [
        "endpoint 01998a2c-1f2e-7c41-a1de-aa2f3c4d5e6f is ready",
        "the token of cluster k8s-de was renewed until 2026-11-27 10:00:00+00:00",
        "token: it holds spaces or line breaks; give it as one line",
        "GET /api/v1/keys/01998a2c-1f2e-7c41-a1de-aa2f3c4d5e6f 404",
        "GET /decide/01998a2c-1f2e-7c41-a1de-aa2f3c4d5e6f",
        "postgresql://berth_app@127.0.0.1:5432/berth",
        "gateway gw-de holds snapshot 3f2a9c1d4e5b6a7f8091a2b3c4d5e6f7",
        "operator='a@b.example' action=gateway.rotate key='environment:2' input_tokens=12 token_digest=ab",
        "http://127.0.0.1:8000/metrics?tokens=4",
    ],
)
def test_what_is_no_secret_can_still_be_read(line):
    assert masked(line) == line


def test_any_key_that_is_issued_is_masked():
    for _ in range(200):
        key = secret_keys.generate()
        assert key not in masked(f"refused {key}, twice {key}.")


def test_arguments_tracebacks_and_causes_are_masked_too():
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(RedactingFormatter("%(message)s"))
    log = logging.Logger("redaction")
    log.addHandler(handler)
    log.warning("refused %s and %s", KEY, {"password": SECRET})
    try:
        try:
            raise ValueError(f"postgresql://me:{SECRET}@db/x")
        except ValueError as error:
            raise RuntimeError(f"Bearer {SECRET}") from error
    except RuntimeError:
        log.exception("it broke")
    text = out.getvalue()
    assert "RuntimeError: Bearer ***" in text
    assert "postgresql://***@db/x" in text
    assert SECRET not in text
    assert KEY not in text


@pytest.mark.parametrize("settings", ["portal.settings.test", "portal.settings.production"])
def test_every_logger_of_the_control_plane_ends_at_the_masking_handler(settings):
    """Those of Django, uvicorn and Celery too, whatever they had set up before."""
    code = (
        "import logging, sys, django, uvicorn\n"
        "uvicorn.Config('x')\n"
        "django.setup()\n"
        f"secret = {KEY!r}\n"
        "for name in ['', 'django', 'django.request', 'django.server', 'django.security', 'uvicorn', 'uvicorn.error',"
        " 'celery', 'celery.app.trace', 'berth.operator', 'x.y']:\n"
        "    logging.getLogger(name).error('of %s: %s', name, secret, extra={'status_code': 500})\n"
        "access = ('x', 'GET', '/?k=' + secret, '1', 200)\n"
        "logging.getLogger('uvicorn.access').warning('%s - \"%s %s HTTP/%s\" %d', *access)\n"
    )
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": settings, "ALLOWED_HOSTS": "berth.example", "PORTAL_PUBLIC_URL": "https://berth.example",
    }  # fmt: skip
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    lines = [line for line in (run.stdout + run.stderr).splitlines() if "***" in line]
    assert len(lines) == 12, run.stdout + run.stderr
    assert KEY not in run.stdout + run.stderr
