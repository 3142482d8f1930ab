"""Habits of the code that keep it safe, read from syntax trees and templates. Exceptions have reasons."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT, calls, dotted, nodes

pytestmark = pytest.mark.xdist_group("sources")

#: Views that anybody may ask, and why.
OPEN_VIEWS = {
    "portal/api/openapi.py": "the description of the API is public, as its documentation is",
}
#: Functions whose forms need no CSRF token, by module.
CSRF_EXEMPT = {
    "clusters/api/gateways.py": "gateways prove themselves by a token in a header and hold no cookie",
    "portal/pages/providers.py": "a provider proves itself by a signed token, not by a cookie",
    "portal/api/errors.py": "answers 404 to everybody and changes nothing",
}
#: Modules that loosen the content policy of a page.
POLICY = {
    "portal/pages/playground.py": "the browser talks to the endpoint's own gateway, which is another host"
}
#: Screens of their own that no shared base guards.
OWN_RULES = {
    "portal/pages/invitations.py Join": "for whoever has opened the link of an invitation, kept in the session",
    "portal/pages/decide.py DecideByLink": "for whom the signed link in a mail was made, while their role decides upon "
    "its request; with a second factor where one has it or must",
}
#: Command lines that a shell reads.
SHELLS = {
    "clusters/triton/runtimes/group/worker.py": "in an engine's pod; what mpirun writes is meant for a remote shell"
}
#: Templates that show HTML as it is.
RAW = {
    "templates/docs/page.html": "Berth's own pages, from the renderer, which escapes all that is text in them",
    "templates/components/field.html": "help texts of forms, among them Django's lists of rules for passwords",
}
_SECRET = re.compile(r"(^|_)(token|secret|password|api_key|key_text|pepper|kubeconfig|credentials?)s?$")
_EVIL = {"eval", "exec", "compile", "__import__"}
_LOGGERS = {"debug", "info", "warning", "error", "exception", "critical"}


def imports() -> Iterator[tuple[str, int, str]]:
    for path, node in nodes(ast.Import, ast.ImportFrom):
        module = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
        for each in node.names:
            yield path, node.lineno, f"{module}{each.name}"


def test_nothing_runs_text_as_code_or_reads_objects_from_bytes():
    run = {f"{path}:{node.lineno} {name}" for path, node, name in calls() if name in _EVIL}
    assert run == set()
    read = re.compile(r"(pickle|marshal|shelve|dill|yaml)\b")
    found = {f"{path}:{line} {name}" for path, line, name in imports() if read.match(name)}
    safe = {
        (path, node.name)
        for path, node in nodes(ast.ClassDef)
        if [ast.unparse(base) for base in node.bases] == ["yaml.SafeLoader"]
    }
    loads = {
        f"{path}:{node.lineno}"
        for path, node, name in calls()
        if name in ("yaml.load", "yaml.load_all")
        and not any(word.arg == "Loader" and (path, dotted(word.value)) in safe for word in node.keywords)
    }
    assert loads == set()
    # YAML is read and written by its safe functions alone, or by a loader that knows less than they do.
    assert {each for each in found if not each.endswith(" yaml")} == set()


def test_nothing_goes_through_a_shell_or_past_a_certificate():
    found = set()
    for path, node, name in calls():
        for keyword in node.keywords:
            off = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
            if (keyword.arg == "shell" and not off) or (
                keyword.arg in ("verify", "verify_ssl", "ssl") and off
            ):
                found.add(path)
        if name in ("os.system", "os.popen", "subprocess.getoutput", "ssl._create_unverified_context"):
            found.add(path)
    assert found == set(SHELLS)


def test_no_text_is_declared_safe_html_by_hand():
    names = ("mark_safe", "SafeString", "SafeText")
    found = {f"{path}:{node.lineno}" for path, node, name in calls() if name.rpartition(".")[2] in names}
    assert found == set()
    raw = re.compile(r"\|\s*safe\b|\{%\s*autoescape\s+off")
    assert {str(path.relative_to(ROOT)) for path in templates() if raw.search(path.read_text())} == set(RAW)


def test_forms_need_their_token_wherever_a_cookie_proves_who_asks():
    found = {path for path, _, name in imports() if name.endswith(".csrf_exempt")}
    assert found == set(CSRF_EXEMPT)


def test_no_view_is_open_to_all_unless_it_is_listed():
    found = {path for path, node in nodes(ast.Name, ast.Attribute) if dotted(node).endswith("AllowAny")}
    found |= {
        path
        for path, node in nodes(ast.Assign)
        if isinstance(node.value, ast.List | ast.Tuple)
        and not node.value.elts
        and ast.unparse(node.targets[0]) in ("permission_classes", "authentication_classes")
    }
    assert found == set(OPEN_VIEWS)


def test_every_view_has_a_rule_of_who_may_ask():
    """By its base: tenants' views ask for an action of the role, the platform's for one of the platform's table."""
    bases = {"TenantScoped", "OperatorScoped", "Page", "SpectacularAPIView"}
    known, found = set(bases), {}
    for path, node in nodes(ast.ClassDef):
        names = {ast.unparse(base).rpartition(".")[2].partition("[")[0] for base in node.bases}
        found[node.name] = (path, names)
    while more := {name for name, (_, names) in found.items() if names & known} - known:
        known |= more
    django = {"View", "APIView", "GenericViewSet", "ViewSet", "TemplateView", "FormView", "RedirectView"}
    bare = {
        f"{path} {name}"
        for name, (path, names) in found.items()
        if names & django and name not in known and not names & known
    }
    assert bare == set(OWN_RULES)


def test_no_page_loosens_the_content_policy_unless_it_is_listed():
    found = {path for path, _, name in imports() if name.startswith("csp.decorators")}
    found |= {path for path, node in nodes(ast.Attribute) if node.attr.startswith("_csp_")}
    assert found == set(POLICY)


def test_no_log_line_holds_a_secret():
    found = set()
    for path, node, name in calls():
        if name.rpartition(".")[2] not in _LOGGERS or not re.search(r"\blog(ger)?\b", name):
            continue
        for argument in [*node.args, *(each.value for each in node.keywords)]:
            # Of credentials.server the server is told, not the credentials.
            owners = {id(each.value) for each in ast.walk(argument) if isinstance(each, ast.Attribute)}
            for inner in ast.walk(argument):
                if id(inner) in owners:
                    continue
                text = inner.attr if isinstance(inner, ast.Attribute) else getattr(inner, "id", "")
                if _SECRET.search(text):
                    found.add(f"{path}:{node.lineno} {text}")
    assert found == set()


def test_sql_is_built_from_what_users_send_nowhere():
    """What formatting puts into a statement are names of the code's own; values are parameters."""
    requests = re.compile(r"request|query_params|\.GET\b|\.POST\b|validated|self\.kwargs")
    found = set()
    for path, node, name in calls():
        if (
            name.rpartition(".")[2] not in ("execute", "executemany", "raw", "RawSQL", "extra")
            or not node.args
        ):
            continue
        for inner in ast.walk(node.args[0]):
            if isinstance(inner, ast.FormattedValue) and requests.search(ast.unparse(inner.value)):
                found.add(f"{path}:{node.lineno}")
    assert found == set()


def templates() -> list[Path]:
    return sorted((ROOT / "templates").rglob("*.html"))


@pytest.mark.parametrize(
    ("what", "pattern"),
    [
        ("an inline script", r"<script(?![^>]*\b(src|type=\"application/json\"))[^>]*>"),
        ("a style element", r"<style\b"),
        ("a style attribute", r"\sstyle\s*="),
        ("a handler", r"\s(on[a-z]+|hx-on[:a-z-]*)\s*=\s*[\"']"),
        ("a javascript: address", r"javascript:"),
        ("a script of another host", r"<(script|link)[^>]+(src|href)=\"https?://"),
        ("a new window without noopener", r"target=\"?_blank\"?(?![^>]*noopener)"),
    ],
)
def test_no_template_holds(what, pattern):
    found = [str(path.relative_to(ROOT)) for path in templates() if re.search(pattern, path.read_text())]
    assert found == [], what
