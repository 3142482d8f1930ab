"""Whoever changes the audit past its guards is found out, and the first broken entry named."""

from __future__ import annotations

import io
import json
import os
import re

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from tenants import scope
from tenants.models import Project, Quota
from tests import databases
from tests.factories import make_tenant, make_user

TABLES = ("tenants_auditentry", "tenants_audithead")


@pytest.fixture(scope="module")
def chained(django_db_setup, django_db_blocker):
    """A database of this module's own, in which two tenants have committed entries; gives its name."""
    name = f"audited_{os.getpid()}"
    databases.clone(name)
    before = connection.settings_dict["NAME"]
    with django_db_blocker.unblock():
        connection.close()
        connection.settings_dict["NAME"] = name
        try:
            for slug in ("one", "two"):
                tenant = make_tenant(slug, owner=make_user(f"{slug}@example.org"))
                with scope.tenant(tenant.id):
                    Project.objects.update(name='Größe "n"\t\\', cost_centre="x" * 60)
                for limit in range(1, 6):
                    with scope.tenant(tenant.id):
                        Quota.objects.filter(resource="gpus").update(limit=limit * 100)
            yield name
        finally:
            connection.close()
            connection.settings_dict["NAME"] = before
    databases.drop(name)


@pytest.fixture
def owner(chained):
    """A connection of the tables' owner with every guard taken away; what it does is undone after the test."""
    with psycopg.connect(databases.owner_url(chained), autocommit=True) as connected:
        for table in TABLES:
            connected.execute(f"CREATE TABLE kept_{table} AS SELECT * FROM {table} WHERE false")
            connected.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
            connected.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
            connected.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
            connected.execute(f"INSERT INTO kept_{table} SELECT * FROM {table}")
        try:
            yield connected
        finally:
            for table in TABLES:
                connected.execute(f"DELETE FROM {table}")
                connected.execute(f"INSERT INTO {table} SELECT * FROM kept_{table}")
                connected.execute(f"DROP TABLE kept_{table}")
                connected.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")
                connected.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
                connected.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")


def verify(*arguments: str) -> str:
    """Run the command; give what it says, also where it fails."""
    out = io.StringIO()
    try:
        call_command("audit_verify", *arguments, stdout=out)
    except CommandError as error:
        out.write(f"FAILED {error}")
    return out.getvalue()


def broken(said: str) -> dict[str, tuple[int, str]]:
    """Give the number and kind of what is broken by chain."""
    found = re.findall(r"^(\S+): BROKEN at number (\d+)[^(]*\((\w+)\)", said, re.MULTILINE)
    return {chain: (int(number), what) for chain, number, what in found}


#: The chain of the tenant "one".
OF_ONE = "tenant_id = (SELECT id FROM tenants_tenant WHERE slug = 'one')"


def of_one(owner, statement: str) -> None:
    owner.execute("SELECT set_config('berth.platform', 'on', false)")
    owner.execute(statement.replace("OF_ONE", OF_ONE))


def test_what_nobody_touched_is_whole(chained):
    said = verify()
    assert broken(said) == {}
    assert re.findall(r"^(\w+): ", said, re.MULTILINE) == ["platform", "one", "two"]
    assert "FAILED" not in said


@pytest.mark.parametrize(
    "change",
    [
        "action = 'quota.delete'",
        "at = at + interval '1 microsecond'",
        "actor_name = 'somebody else'",
        "on_behalf = 'somebody else'",
        "address = '192.0.2.99'",
        "request_id = 'another'",
        "target_id = 'another'",
        "before = '{\"limit\": 1}'",
        "after = NULL",
        "facts = '{}'",
        "hash = repeat('a', 64)",
        "id = gen_random_uuid()",
    ],
)
def test_a_changed_field_breaks_its_entry(owner, change):
    of_one(owner, f"UPDATE tenants_auditentry SET {change} WHERE number = 5 AND OF_ONE")
    said = verify("--all")
    assert broken(said) == {"one": (5, "hash")}
    assert "FAILED 1 of 3 chains" in said


def test_an_entry_taken_out_of_the_middle_leaves_a_gap(owner):
    of_one(owner, "DELETE FROM tenants_auditentry WHERE number = 5 AND OF_ONE")
    assert broken(verify()) == {"one": (6, "gap")}


def test_an_entry_taken_out_and_the_others_moved_up_breaks_the_link(owner):
    of_one(owner, "DELETE FROM tenants_auditentry WHERE number = 5 AND OF_ONE")
    for number in range(6, 10):
        of_one(
            owner, f"UPDATE tenants_auditentry SET number = {number - 1} WHERE number = {number} AND OF_ONE"
        )
    assert broken(verify())["one"] == (5, "link")


def test_a_tail_cut_off_is_missed(owner):
    of_one(owner, "DELETE FROM tenants_auditentry WHERE number > 6 AND OF_ONE")
    assert broken(verify()) == {"one": (6, "tail")}


def test_an_entry_put_in_is_found(owner):
    columns = "tenant_id, at, action, actor_kind, actor_id, actor_name, on_behalf, address, user_agent, request_id, "
    columns += "target_kind, target_id, target_name, before, after, facts, previous, hash"
    of_one(
        owner,
        f"INSERT INTO tenants_auditentry (id, number, {columns}) "
        f"SELECT gen_random_uuid(), 1000, {columns} FROM tenants_auditentry WHERE number = 5 AND OF_ONE",
    )
    assert broken(verify()) == {"one": (1000, "gap")}


def test_entries_that_changed_places_are_found(owner):
    for number, becomes in ((5, 1000), (6, 5), (1000, 6)):
        of_one(owner, f"UPDATE tenants_auditentry SET number = {becomes} WHERE number = {number} AND OF_ONE")
    assert broken(verify())["one"] == (5, "link")


def test_entries_of_two_tenants_that_changed_places_are_found(owner):
    owner.execute("SELECT set_config('berth.platform', 'on', false)")
    one, two = (
        owner.execute("SELECT id FROM tenants_tenant WHERE slug = %s", [slug]).fetchone()[0]
        for slug in ("one", "two")
    )
    for whose, number, becomes, then in ((one, 1, two, 1000), (two, 1, one, 1), (two, 1000, two, 1)):
        owner.execute(
            "UPDATE tenants_auditentry SET tenant_id = %s, number = %s WHERE tenant_id = %s AND number = %s",
            [becomes, then, whose, number],
        )
    assert broken(verify()) == {"one": (1, "hash"), "two": (1, "hash")}


def test_a_whole_chain_taken_away_is_missed(owner):
    of_one(owner, "DELETE FROM tenants_auditentry WHERE OF_ONE")
    assert broken(verify()) == {"one": (0, "tail")}


def test_a_chain_written_anew_agrees_with_itself_but_not_with_the_anchor(owner, tmp_path):
    anchor = tmp_path / "anchor.json"
    assert broken(verify("--write-anchor", str(anchor))) == {}
    of_one(owner, "UPDATE tenants_auditentry SET actor_name = 'nobody' WHERE number = 5 AND OF_ONE")
    rewrite(owner)
    assert broken(verify()) == {}
    last = json.loads(anchor.read_text())["heads"]
    said = broken(verify("--anchor", str(anchor)))
    assert set(said) == {"one"}
    assert said["one"] == (last[chain_of_one(owner)]["number"], "anchor")


def test_a_chain_begun_anew_does_not_reach_its_anchor(owner, tmp_path):
    anchor = tmp_path / "anchor.json"
    verify("--write-anchor", str(anchor))
    of_one(owner, "DELETE FROM tenants_auditentry WHERE number > 3 AND OF_ONE")
    rewrite(owner)
    assert broken(verify()) == {}
    assert broken(verify("--anchor", str(anchor))) == {"one": (3, "anchor")}


def test_one_chain_may_be_verified_alone(owner):
    of_one(owner, "DELETE FROM tenants_auditentry WHERE number = 5 AND OF_ONE")
    assert broken(verify("--tenant", "two")) == broken(verify("--platform")) == {}
    assert broken(verify("--tenant", "one")) == {"one": (6, "gap")}
    assert "There is no tenant 'three'" in verify("--tenant", "three")


def test_the_guards_hold_the_owner_too(chained):
    with psycopg.connect(databases.owner_url(chained)) as connected:
        for statement in (
            "UPDATE tenants_auditentry SET action = 'x'",
            "DELETE FROM tenants_auditentry",
            "TRUNCATE tenants_auditentry",
            "DELETE FROM tenants_audithead",
            "UPDATE tenants_audithead SET number = number - 1",
        ):
            with pytest.raises(psycopg.errors.RestrictViolation):
                connected.execute(statement)
            connected.rollback()


@pytest.mark.parametrize(
    "text", ["{}", "no json", '{"format": "other"}', '{"format": "berth-audit-anchor/1"}', "[]"]
)
def test_what_is_no_anchor_is_refused(chained, tmp_path, text):
    (tmp_path / "anchor.json").write_text(text)
    assert "This is no anchor" in verify("--anchor", str(tmp_path / "anchor.json"))


def chain_of_one(owner) -> str:
    return str(owner.execute("SELECT id FROM tenants_tenant WHERE slug = 'one'").fetchone()[0])


def rewrite(owner) -> None:
    """Write the chain of "one" anew over what stands in it, as whoever owns the database could."""
    chain, last, number = chain_of_one(owner), "0" * 64, 0
    query = f"SELECT id, number FROM tenants_auditentry WHERE {OF_ONE} ORDER BY number"
    for identity, number in owner.execute(query).fetchall():  # noqa: B007
        last = owner.execute(
            "UPDATE tenants_auditentry SET previous = %s WHERE id = %s "
            "RETURNING encode(sha256(convert_to(berth_audit_canonical(tenants_auditentry.*), 'UTF8')), 'hex')",
            [last, identity],
        ).fetchone()[0]
        owner.execute("UPDATE tenants_auditentry SET hash = %s WHERE id = %s", [last, identity])
    owner.execute(
        "UPDATE tenants_audithead SET number = %s, hash = %s WHERE chain = %s", [number, last, chain]
    )
