"""Signing in: the key is checked first, kept for its owner alone, and never sent where others could read it."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from tenants.models import Role
from tests.berthctl.conftest import URL, Berthctl, OntoDjango, Scripted
from tests.factories import make_tenant, management_key

pytestmark = pytest.mark.django_db


def kept(environment) -> Path:
    return Path(environment["XDG_CONFIG_HOME"]) / "berth" / "contexts.json"


def test_a_key_is_asked_for_and_kept_for_its_owner_alone(signed_out, tenant, environment):
    key = management_key(tenant, Role.VIEWER)
    told = signed_out.run("login", "--url", f"{URL}/api/v1/", typed=f"{key}\n")
    assert f"Signed in to Acme at {URL} as context acme." in told.stdout
    assert key not in told.output
    path = kept(environment)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    (context,) = json.loads(path.read_text())["contexts"].values()
    assert context == {"url": URL, "token": key, "tenant": "acme", "allow_http": False}
    assert "tenant    Acme" in signed_out.run("whoami").stdout


def test_a_key_that_is_refused_is_not_kept(signed_out, tenant, environment):
    told = signed_out.run("login", "--url", URL, "--key-stdin", typed="berth_wrong", status=3)
    assert "The key is not known" in told.stderr
    assert not kept(environment).exists()


def test_the_environment_signs_in_for_scripts(signed_out, tenant, environment):
    environment |= {"BERTH_URL": URL, "BERTH_TOKEN": management_key(tenant)}
    assert signed_out.json("whoami")["slug"] == "acme"
    assert not kept(environment).exists()


def test_a_kept_key_goes_to_no_other_installation(signed_out, tenant, environment):
    signed_out.run("login", "--url", URL, "--key-stdin", typed=management_key(tenant))
    asked = Berthctl(environment, Scripted())
    environment["BERTH_URL"] = "https://elsewhere.example"
    told = asked.run("whoami", status=2).stderr
    assert (
        "BERTH_URL is https://elsewhere.example, but the key of context 'acme' is for http://localhost"
        in told
    )
    environment["BERTH_URL"] = f"{URL}/api/v1/"  # the same one
    assert signed_out.json("whoami")["slug"] == "acme"


def test_a_key_is_sent_unencrypted_only_where_that_was_allowed(tenant, environment):
    url = "http://berth.example"
    key = management_key(tenant)
    berthctl = Berthctl(environment, OntoDjango())
    environment |= {"BERTH_URL": url, "BERTH_TOKEN": key}
    assert "others could read the key" in berthctl.run("whoami", status=2).stderr
    environment["BERTH_ALLOW_HTTP"] = "1"
    assert berthctl.json("whoami")["slug"] == "acme"
    for name in ("BERTH_URL", "BERTH_TOKEN", "BERTH_ALLOW_HTTP"):
        del environment[name]
    berthctl.run("login", "--url", url, "--key-stdin", "--allow-http", typed=key)
    assert berthctl.json("whoami")["slug"] == "acme"
    path = kept(environment)
    path.write_text(path.read_text().replace('"allow_http": true', '"allow_http": false'))
    assert "others could read the key" in berthctl.run("whoami", status=2).stderr


def test_several_contexts(berthctl, tenant):
    other = management_key(make_tenant("other"))
    berthctl.run("login", "--url", URL, "--key-stdin", "--name", "two", typed=other)
    assert berthctl.json("whoami")["slug"] == "other"
    assert berthctl.json("--context", "acme", "whoami")["slug"] == "acme"
    berthctl.run("contexts", "acme")
    assert berthctl.run("contexts").stdout == "* acme\n  two\n"
    berthctl.run("contexts", "three", status=4)
    berthctl.run("logout")
    assert berthctl.json("contexts") == {"current": "two", "contexts": ["two"]}


def test_the_context_that_the_environment_names_is_forgotten(berthctl, environment):
    other = management_key(make_tenant("other"))
    berthctl.run("login", "--url", URL, "--key-stdin", "--name", "two", typed=other)
    environment["BERTH_CONTEXT"] = "acme"
    assert "Forgot context acme." in berthctl.run("logout").stdout
    del environment["BERTH_CONTEXT"]
    assert berthctl.json("contexts") == {"current": "two", "contexts": ["two"]}


def test_nobody_is_signed_in(signed_out):
    told = signed_out.run("whoami", status=3)
    assert "You are not signed in. Run: berthctl login" in told.stderr
    assert signed_out.json("whoami", status=3)["exit_status"] == 3
    signed_out.run("logout", status=3)
    signed_out.run("--context", "acme", "whoami", status=3)


def test_a_file_that_others_may_read_is_refused(berthctl, environment):
    kept(environment).chmod(0o644)
    assert "chmod 600" in berthctl.run("whoami", status=3).stderr
    kept(environment).chmod(0o600)
    kept(environment).write_text("{")
    assert "cannot be read" in berthctl.run("whoami", status=3).stderr


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://berth.example", "others could read the key"),
        ("berth.example", "is no address"),
        ("ftp://a", "no address"),
    ],
)
def test_an_address_that_would_give_the_key_away(signed_out, url, told):
    assert told in signed_out.run("login", "--url", url, "--key-stdin", typed="x", status=2).stderr


def test_nobody_is_asked_where_nobody_answers(signed_out):
    assert "BERTH_TOKEN" in signed_out.run("--no-input", "login", "--url", URL, status=2).stderr
