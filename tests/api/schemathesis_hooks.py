"""Loaded by schemathesis: what a browser sends beside its session, and headers that every answer carries."""

from __future__ import annotations

import schemathesis

#: The pair of cookie and header by which scripts prove their origin.
CSRF = "c" * 32
ALWAYS = {
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


@schemathesis.hook
def before_call(context, case, **kwargs):
    if "sessionid" in (case.cookies or {}):
        case.cookies["csrftoken"] = CSRF
        case.headers["X-CSRFToken"] = CSRF


@schemathesis.deserializer(
    "text/yaml", "text/x-yaml", "application/x-yaml", "text/vnd.yaml", "application/yaml"
)
def several_documents(context, response):
    """Give YAML as the text that the description says it is: one answer holds several documents."""
    return response.text


@schemathesis.check
def every_answer_has_its_headers(ctx, response, case):
    for name, wanted in ALWAYS.items():
        found = response.headers.get(name, [""])[0]
        assert found == wanted, f"{name} is {found!r}, not {wanted!r}"
    assert "content-security-policy" in response.headers
    assert "server" not in response.headers
