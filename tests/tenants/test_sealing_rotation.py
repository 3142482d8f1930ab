"""Sealing keys are rotated while Berth serves: nothing is lost, whoever writes meanwhile and whenever it is killed."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading

import pytest
from allauth.mfa.models import Authenticator
from django.core.checks import Tags, run_checks
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from clusters.models import CatalogModel
from tenants import scope
from tenants.identity.sealed import seal_second_factor, unseal_second_factor
from tenants.models import OperatorIdempotencyRecord, SealingRotation, WebhookEndpoint
from tenants.sealing import CannotOpen, KeyGone, SealedField, seal, unseal
from tenants.sealing.envelope import Head
from tenants.sealing.rotation import secrets_rotate, secrets_status
from tests.databases import ROOT
from tests.estate import make_estate
from tests.factories import make_tenant, make_user
from tests.fakes.vault import running_vault

OLD, NEW = Head("environment", "1"), Head("environment", "2")
SECOND = b"2" * 32


def webhooks(tenant, count: int) -> list[WebhookEndpoint]:
    """Make webhooks whose secret is their own name, sealed under the key of the moment."""
    made = []
    with scope.tenant(tenant.id):
        for number in range(count):
            row = WebhookEndpoint(
                tenant_id=tenant.id, name=f"hook-{number}", url="https://x.example", event_types=[]
            )
            row.secret = seal(row.name.encode(), field=SealedField.of(row, "secret"))
            row.save()
            made.append(row)
    return made


def opened(row: WebhookEndpoint, field: str = "secret") -> str:
    with scope.tenant(row.tenant_id):
        row.refresh_from_db()
    return unseal(getattr(row, field), field=SealedField.of(row, field)).decode()


def heads() -> set[Head | None]:
    return {rested.head for rested in secrets_status()}


def run(command: str, *words: str) -> str:
    out = io.StringIO()
    call_command(command, *words, stdout=out, stderr=out)
    return out.getvalue()


@pytest.fixture
def rows(committed_db):
    """Secrets of two tenants and of the platform."""
    one, two = make_tenant("one"), make_tenant("two")
    made = webhooks(one, 7) + webhooks(two, 4)
    made[0].previous_secret = seal(b"before", field=SealedField.of(made[0], "previous_secret"))
    with scope.tenant(one.id):
        made[0].save(update_fields=["previous_secret"])
    answer = OperatorIdempotencyRecord(principal="p", method="POST", path="/", key="k", fingerprint="f")
    answer.body = seal(b"answer", field=SealedField.of(answer, "body"))
    answer.save()
    return made


def test_everything_comes_to_rest_under_the_newest_key_and_the_old_one_may_go(rows, settings):
    assert heads() == {OLD}
    settings.SEALING_KEYS = {**settings.SEALING_KEYS, 2: SECOND}
    with pytest.raises(CommandError, match="Keep environment:1: 13 secrets rest under it"):
        run("secrets_status", "--without", "environment:1")
    foretold = run("secrets_rotate", "--dry-run")
    assert "tenants_webhookendpoint.secret: 11 under environment:1 would be wrapped" in foretold
    assert heads() == {OLD}, "a dry run changes nothing"

    told = run("secrets_rotate", "--batch", "3")
    assert told.count("tenants_webhookendpoint.secret: ") == 4
    assert "Under environment:2: 13 wrapped, 0 left" in told
    assert heads() == {NEW}
    assert "Nothing rests under environment:1" in run("secrets_status", "--without", "environment:1")
    with pytest.raises(CommandError, match="it seals what is new"):
        run("secrets_status", "--without", "environment:2")
    del settings.SEALING_KEYS[1]
    assert [opened(row) for row in rows] == [row.name for row in rows]
    assert opened(rows[0], "previous_secret") == "before"
    assert "0 wrapped" in run("secrets_rotate"), "a second run finds nothing to do"
    assert "Last rotation" in run("secrets_status")


def test_values_keep_their_ciphertext_unless_they_are_to_be_encrypted_anew(rows, settings):
    before = bytes(rows[0].secret)[-34:]
    settings.SEALING_KEYS = {**settings.SEALING_KEYS, 2: SECOND}
    secrets_rotate()
    assert opened(rows[0]) == "hook-0"
    assert bytes(rows[0].secret)[-34:] == before
    secrets_rotate(with_data=True, batch=2)
    assert opened(rows[0]) == "hook-0"
    assert bytes(rows[0].secret)[-34:] != before
    assert SealingRotation.objects.first().with_data


def test_to_vault_and_back_is_the_same_rotation(rows, settings):
    with running_vault() as vault:
        settings.SEALING_PROVIDER = "vault-transit"
        settings.SEALING_VAULT = {"address": vault.url, "token": "root-token"}
        secrets_rotate()
        assert heads() == {Head("vault-transit", "berth:v1")}
        vault.rotate("berth")
        asked = vault.count("/rewrap/")
        secrets_rotate(batch=100)
        assert heads() == {Head("vault-transit", "berth:v2")}
        assert vault.count("/rewrap/") - asked == 3, "one question for each batch"
        vault.forget_before("berth", 2)
        assert [opened(row) for row in rows] == [row.name for row in rows]
        vault.sealed = True
        with pytest.raises(CommandError, match="sealed or in maintenance"):
            run("secrets_status")
        vault.sealed = False
        settings.SEALING_PROVIDER = "environment"
        secrets_rotate()
    settings.SEALING_VAULT = {}
    assert heads() == {OLD}
    assert [opened(row) for row in rows] == [row.name for row in rows]


def test_whoever_reads_and_writes_during_a_rotation_is_neither_kept_waiting_nor_overwritten(rows, settings):
    settings.SEALING_KEYS = {**settings.SEALING_KEYS, 2: SECOND}
    ending, wrong, written = threading.Event(), [], {}

    def read() -> None:
        try:
            while not ending.is_set():
                for row in rows[:6]:
                    if opened(WebhookEndpoint(id=row.id, tenant_id=row.tenant_id)) != row.name:
                        wrong.append(row.name)
        except Exception as error:  # noqa: BLE001 -- told by the test
            wrong.append(repr(error))
        finally:
            connection.close()

    def write() -> None:
        number = 0
        try:
            while not ending.is_set():
                for row in rows[7:]:
                    number += 1
                    with scope.tenant(row.tenant_id):
                        held = WebhookEndpoint.objects.select_for_update().get(id=row.id)
                        held.secret = seal(f"new-{number}".encode(), field=SealedField.of(held, "secret"))
                        held.save(update_fields=["secret"])
                    written[row.id] = f"new-{number}"
        except Exception as error:  # noqa: BLE001 -- told by the test
            wrong.append(repr(error))
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for work in (read, read, write)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            secrets_rotate(batch=2, with_data=True)
    finally:
        ending.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert [opened(row) for row in rows[:7]] == [row.name for row in rows[:7]]
    assert {row.id: opened(row) for row in rows[7:]} == written
    assert heads() == {NEW}


def test_a_row_that_somebody_holds_is_passed_over_and_comes_later(rows, settings, monkeypatch):
    monkeypatch.setattr("tenants.sealing.rotation._PAUSE_S", 0)
    settings.SEALING_KEYS = {**settings.SEALING_KEYS, 2: SECOND}
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with scope.tenant(rows[2].tenant_id):
                WebhookEndpoint.objects.select_for_update().get(id=rows[2].id)
                held.set()
                go.wait(60)
        finally:
            connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert held.wait(30)
        with pytest.raises(CommandError, match="run it again"):
            run("secrets_rotate")
        assert heads() == {OLD, NEW}
        assert SealingRotation.objects.first().left == 1
    finally:
        go.set()
        thread.join()
    run("secrets_rotate")
    assert heads() == {NEW}


def test_a_rotation_that_is_killed_is_gone_on_with(rows, settings, committed_db):
    environment = os.environ | {
        "DATABASE_URL": committed_db, "DJANGO_SETTINGS_MODULE": "portal.settings.test", "PYTHONUNBUFFERED": "1",
        "BERTH_SEALING_KEYS": f"1:{settings.SEALING_KEYS[1].hex()},2:{SECOND.hex()}",
    }  # fmt: skip
    with transaction.atomic(), scope.tenant(rows[-1].tenant_id):
        WebhookEndpoint.objects.select_for_update().get(id=rows[-1].id)  # so that it cannot come to its end
        process = subprocess.Popen(
            [sys.executable, "manage.py", "secrets_rotate", "--batch", "2"],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            first = process.stdout.readline()
        finally:
            process.kill()
            process.communicate(timeout=30)
    assert first.startswith("tenants_")
    settings.SEALING_KEYS = {**settings.SEALING_KEYS, 2: SECOND}
    assert heads() == {OLD, NEW}
    assert SealingRotation.objects.first().ended_at is None
    assert [opened(row) for row in rows] == [row.name for row in rows]
    secrets_rotate()
    assert heads() == {NEW}
    assert [opened(row) for row in rows] == [row.name for row in rows]


def test_what_was_moved_between_tenants_rows_or_fields_does_not_open_and_is_named(rows, settings):
    one, other, theirs = rows[0], rows[1], rows[8]
    with scope.platform("a test"), connection.cursor() as cursor:
        swap = "UPDATE tenants_webhookendpoint SET secret = %s WHERE id = %s"
        cursor.execute(swap, [bytes(theirs.secret), one.id])
        cursor.execute(swap, [bytes(one.secret), other.id])
        cursor.execute(swap, [bytes(one.previous_secret), theirs.id])
    for row in (one, other, theirs):
        with pytest.raises(CannotOpen):
            opened(row)
    settings.SEALING_KEYS = {**settings.SEALING_KEYS, 2: SECOND}
    out = io.StringIO()
    with pytest.raises(CommandError, match="set what does not open anew"):
        call_command("secrets_rotate", stdout=out, stderr=out)
    for row in (one, other, theirs):
        assert f"tenants_webhookendpoint {row.id}: It was changed" in out.getvalue()
        with pytest.raises(CannotOpen):
            opened(row)
    assert "10 wrapped, 3 left" in out.getvalue()


def test_a_key_that_is_gone_is_told_by_status_and_by_a_check(rows, settings):
    with scope.platform("a test"):
        assert run_checks(tags=[Tags.database], databases=["default"]) == []
    settings.SEALING_KEYS = {2: SECOND}
    with pytest.raises(CommandError, match="13 secrets do not open"):
        run("secrets_status")
    warnings = run_checks(tags=[Tags.database], databases=["default"])
    assert {warning.id for warning in warnings} == {"tenants.W002"}
    assert "environment:1 is gone" in warnings[0].msg
    with pytest.raises(KeyGone):
        opened(rows[0])
    with pytest.raises(CommandError, match="set what does not open anew"):
        run("secrets_rotate")
    assert heads() == {OLD}, "nothing is lost by trying"


def test_two_rotations_do_not_run_at_once(rows, committed_db):
    with scope.platform("a test"), connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    started, go = threading.Event(), threading.Event()

    def hold() -> None:
        from tenants.locks import claimed

        try:
            with claimed("secrets-rotate") as mine:
                assert mine
                started.set()
                go.wait(60)
        finally:
            connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert started.wait(30)
        with pytest.raises(CommandError, match="Another rotation runs"):
            run("secrets_rotate")
    finally:
        go.set()
        thread.join()


@pytest.mark.django_db
def test_columns_of_clusters_and_second_factors_are_found_too(settings):
    estate = make_estate()
    cluster, model = next(iter(estate.clusters.values())), CatalogModel.objects.first()
    for row, field in ((cluster, "credentials"), (model, "weights_secret")):
        setattr(row, field, seal(b"{}", field=SealedField.of(row, field)))
        row.save(update_fields=[field])
    user = make_user("someone@example.com")
    for kind, data in (
        ("totp", {"secret": seal_second_factor("JBSWY3DP")}),
        ("recovery_codes", {"seed": seal_second_factor("seed"), "used_mask": 5}),
        ("webauthn", {"name": "key"}),
    ):
        Authenticator.objects.create(user=user, type=kind, data=data)
    assert {rested.column: rested.values for rested in secrets_status()} == {
        "clusters_catalogmodel.weights_secret": 1, "clusters_cluster.credentials": 1, "mfa_authenticator.data": 2,
    }  # fmt: skip
    settings.SEALING_KEYS = {**settings.SEALING_KEYS, 2: SECOND}
    rotation = secrets_rotate()
    assert (rotation.wrapped, rotation.left) == (4, 0)
    assert heads() == {NEW}
    del settings.SEALING_KEYS[1]
    cluster.refresh_from_db()
    assert unseal(cluster.credentials, field=SealedField.of(cluster, "credentials")) == b"{}"
    codes = Authenticator.objects.get(type="recovery_codes").data
    assert (unseal_second_factor(codes["seed"]), codes["used_mask"]) == ("seed", 5)
