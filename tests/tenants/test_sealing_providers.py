"""Where sealing keys are kept: files that change under a running process, and Vault's transit engine."""

from __future__ import annotations

import threading
import uuid

import pytest
from django.core.exceptions import ImproperlyConfigured

from tenants.sealing import CannotOpen, KeyGone, KeysAway, SealedField, seal, unseal
from tenants.sealing.envelope import head_of, newest_head, rewrap
from tenants.sealing.vault import Transit
from tenants.sealing.vault_client import VaultClient, VaultSettings
from tests.fakes.kube.tls import authority, loopback
from tests.fakes.vault import FakeVault, TransitKey, running_vault

FIELD = SealedField(uuid.UUID(int=1), "tenants_webhookendpoint", uuid.UUID(int=7), "secret")


def key_file(path, text: str):
    """Write a file of keys as an editor does: a new one in place of the old."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text)
    fresh.chmod(0o440)
    fresh.replace(path)


@pytest.fixture
def file(settings, tmp_path):
    path = tmp_path / "sealing"
    key_file(path, "# made in May\n1:" + "ab" * 32 + "\n")
    settings.SEALING_PROVIDER, settings.SEALING_FILE, settings.SEALING_KEYS = "file", str(path), {}
    return path


def test_a_file_is_read_again_when_it_changes(file):
    older = seal(b"token", field=FIELD)
    assert str(head_of(older)) == "file:1"
    key_file(file, "1:" + "ab" * 32 + "\n2:" + "cd" * 32)
    newer = seal(b"token", field=FIELD)
    assert str(head_of(newer)) == "file:2"
    assert unseal(older, field=FIELD) == b"token"
    key_file(file, "2:" + "cd" * 32)
    assert unseal(newer, field=FIELD) == b"token"
    with pytest.raises(KeyGone, match="file:1"):
        unseal(older, field=FIELD)


def test_a_folder_has_a_file_for_each_key(file, settings, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    key_file(folder / "1", "ab" * 32 + "\n")
    (folder / "..data").write_text("not a key")
    sealed = seal(b"token", field=FIELD)
    settings.SEALING_FILE = str(folder)
    assert unseal(sealed, field=FIELD) == b"token", "the same keys, another way of keeping them"
    key_file(folder / "2", "cd" * 32)
    assert str(newest_head()) == "file:2"


@pytest.mark.parametrize("mode", [0o444, 0o460, 0o604])
def test_a_file_that_others_may_read_or_change_is_not_used(file, mode):
    file.chmod(mode)
    with pytest.raises(KeysAway, match="open to others"):
        seal(b"token", field=FIELD)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no key in it"), ("1:xyz", "must look like"), ("1:" + "ab" * 8, "at least 32"),
        ("0:" + "ab" * 32, "from 1"),
        ("1:" + "ab" * 32 + "\n1:" + "cd" * 32, "twice"), ("ab" * 32, "must look like"),
    ],
)  # fmt: skip
def test_a_file_that_holds_no_keys_says_what_is_wrong_and_not_what_it_holds(file, text, told):
    key_file(file, text)
    with pytest.raises(KeysAway, match=told) as caught:
        seal(b"token", field=FIELD)
    assert "abab" not in str(caught.value)
    assert "xyz" not in str(caught.value)


def test_while_a_file_cannot_be_used_the_keys_read_last_go_on(file, caplog):
    sealed = seal(b"token", field=FIELD)
    key_file(file, "half a k")
    assert unseal(sealed, field=FIELD) == b"token"
    file.unlink()
    assert unseal(sealed, field=FIELD) == b"token"
    assert "the keys read last go on" in caplog.text


def vault_settings(vault: FakeVault, **changes) -> dict:
    return {"address": vault.url, "token": "root-token", "timeout_s": 5.0} | changes


@pytest.fixture
def vault(settings):
    with running_vault() as running:
        settings.SEALING_PROVIDER, settings.SEALING_VAULT = "vault-transit", vault_settings(running)
        settings.SEALING_KEYS = {}
        yield running


def forget_data_keys(settings, vault: FakeVault) -> None:
    """Ask as another process would, which has unwrapped nothing yet."""
    settings.SEALING_VAULT = vault_settings(vault, timeout_s=settings.SEALING_VAULT["timeout_s"] + 0.001)


def test_vault_wraps_and_unwraps_and_never_sees_the_value(vault, settings):
    sealed = seal(b"token", field=FIELD)
    assert str(head_of(sealed)) == "vault-transit:berth:v1"
    forget_data_keys(settings, vault)
    assert unseal(sealed, field=FIELD) == b"token"
    assert vault.count("/encrypt/berth") == vault.count("/decrypt/berth") == 1
    assert "token" not in str(vault.bodies)


def test_what_is_opened_again_and_again_asks_vault_once(vault, monkeypatch):
    monkeypatch.setattr("tenants.sealing.vault.MOST_KEPT", 10)
    sealed = seal(b"token", field=FIELD)
    for _ in range(5):
        assert unseal(sealed, field=FIELD) == b"token"
    assert vault.count("/decrypt/") == 0
    for _ in range(10):
        seal(b"x", field=FIELD)
    assert unseal(sealed, field=FIELD) == b"token"
    assert vault.count("/decrypt/") == 1, "no more than so many are kept"


def test_data_keys_are_kept_for_a_short_time_only(vault, monkeypatch):
    sealed = seal(b"token", field=FIELD)
    monkeypatch.setattr("tenants.sealing.vault.KEPT_S", -1)
    assert unseal(sealed, field=FIELD) == b"token"  # the time of this one was set when it was put
    other = seal(b"token", field=FIELD)
    assert unseal(other, field=FIELD) == b"token"
    assert vault.count("/decrypt/") == 1


def test_a_rotated_key_wraps_anew_within_vault(vault, settings):
    values = [(seal(b"one", field=FIELD), FIELD), (seal(b"two", field=FIELD), FIELD)]
    vault.rotate("berth")
    assert str(newest_head()) == "vault-transit:berth:v2"
    asked = len(vault.calls)
    newer = rewrap(values)
    assert [str(head_of(each)) for each in newer] == ["vault-transit:berth:v2"] * 2
    assert [path for _, path in vault.calls[asked:]] == ["/v1/transit/rewrap/berth"], (
        "one question, nothing unwrapped"
    )
    vault.forget_before("berth", 2)
    forget_data_keys(settings, vault)
    assert [unseal(each, field=FIELD) for each in newer] == [b"one", b"two"]
    with pytest.raises(KeyGone, match="too old"):
        unseal(values[0][0], field=FIELD)


def test_one_that_does_not_open_keeps_the_others_from_nothing(vault):
    good, bad = seal(b"one", field=FIELD), bytearray(seal(b"two", field=FIELD))
    bad[60] = ord("A") if bad[60] != ord("A") else ord("B")
    vault.rotate("berth")
    first, second, third = rewrap([(good, FIELD), (bytes(bad), FIELD), (good, FIELD)])
    assert str(head_of(first)) == str(head_of(third)) == "vault-transit:berth:v2"
    assert isinstance(second, CannotOpen)


def test_another_key_of_vaults_and_another_provider_take_over(vault, settings):
    settings.SEALING_PROVIDER, settings.SEALING_KEYS = "environment", {1: b"1" * 32}
    from_environment = seal(b"one", field=FIELD)
    settings.SEALING_PROVIDER = "vault-transit"
    from_berth = seal(b"two", field=FIELD)
    vault.keys["other"] = TransitKey()
    settings.SEALING_VAULT = vault_settings(vault, key="other")
    newer = rewrap([(from_environment, FIELD), (from_berth, FIELD)])
    assert [str(head_of(each)) for each in newer] == ["vault-transit:other:v1"] * 2
    del vault.keys["berth"]
    assert [unseal(each, field=FIELD) for each in newer] == [b"one", b"two"]
    forget_data_keys(settings, vault)
    with pytest.raises(KeyGone, match="not found"):
        unseal(from_berth, field=FIELD)


@pytest.mark.parametrize("name", ["../../sys/seal", "berth/../x", "berth:v1:v1", "b" * 200, "bérth", "berth"])
def test_the_database_is_trusted_with_no_more_than_a_name(vault, name):
    """A row that names a path of Vault's leads to no request there."""
    sealed = seal(b"token", field=FIELD)
    head = head_of(sealed)
    key_id = f"{name}:vx" if name == "berth" else f"{name}:v1"
    changed = sealed[:1] + bytes([13]) + b"vault-transit" + bytes([len(key_id.encode())]) + key_id.encode()
    before = len(vault.calls)
    with pytest.raises(CannotOpen):
        unseal(changed + sealed[len(head.packed()) :], field=FIELD)
    assert len(vault.calls) == before


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ({"sealed": True}, "sealed or in maintenance"),
        ({"drop": True}, "Vault does not answer"),
        ({"tokens": set()}, "permission denied"),
        ({"redirect": "http://169.254.169.254"}, "sends to another address"),
        ({"keys": {}}, "permission denied"),
    ],
)
def test_why_vault_gives_no_key_is_told(vault, fault, told):
    for name, value in fault.items():
        setattr(vault, name, value)
    with pytest.raises(KeysAway, match=told) as caught:
        seal(b"token", field=FIELD)
    assert caught.value.code == "secrets-unavailable"
    assert "root-token" not in str(caught.value)


def test_a_vault_that_is_silent_or_gone_is_waited_for_so_long_only(settings):
    with running_vault() as vault:
        settings.SEALING_PROVIDER, settings.SEALING_VAULT = (
            "vault-transit",
            vault_settings(vault, timeout_s=0.3),
        )
        vault.hold = threading.Event()
        with pytest.raises(KeysAway, match=r"nothing came within 0\.3 s"):
            seal(b"token", field=FIELD)
    with pytest.raises(KeysAway, match="does not answer"):
        seal(b"token", field=FIELD)


@pytest.mark.parametrize("status", [500, 502, 429])
def test_what_failed_on_the_way_is_tried_again(vault, status):
    vault.next_errors = [status, status]
    assert unseal(seal(b"token", field=FIELD), field=FIELD) == b"token"
    assert vault.count("/encrypt/") == 3


def test_an_approle_logs_in_again_when_its_token_has_ended(vault, settings, tmp_path):
    vault.roles["approle:berth-role"] = "first"
    secret = tmp_path / "secret-id"
    secret.write_text("first\n")
    settings.SEALING_VAULT = vault_settings(
        vault, token="", auth="approle", role="berth-role", secret_id_file=str(secret)
    )
    seal(b"token", field=FIELD)
    seal(b"token", field=FIELD)
    assert vault.count("auth/approle/login") == 1
    vault.tokens.clear()
    vault.roles["approle:berth-role"] = "second"
    secret.write_text("second\n")
    seal(b"token", field=FIELD)
    assert vault.count("auth/approle/login") == 2
    vault.tokens.clear()
    secret.write_text("wrong\n")
    with pytest.raises(KeysAway, match="invalid role or secret ID") as caught:
        seal(b"token", field=FIELD)
    assert "wrong" not in str(caught.value)


def test_a_short_lease_is_renewed_before_it_ends(vault, settings, tmp_path):
    vault.roles["approle:r"], vault.lease_s = "s", 1
    secret = tmp_path / "secret-id"
    secret.write_text("s")
    client = VaultClient(
        VaultSettings(address=vault.url, auth="approle", role="r", secret_id_file=str(secret))
    )
    client.get("transit/keys/berth")
    client._until = 0.0  # two thirds of the lease are over
    client.get("transit/keys/berth")
    assert vault.count("login") == 2


def test_a_service_account_of_kubernetes_logs_in(vault, settings, tmp_path):
    vault.roles["k8s-eu:berth"] = "jwt-of-pod"
    jwt = tmp_path / "token"
    jwt.write_text("jwt-of-pod")
    settings.SEALING_VAULT = vault_settings(
        vault, token="", auth="kubernetes", auth_mount="k8s-eu", role="berth", jwt_file=str(jwt)
    )
    assert unseal(seal(b"token", field=FIELD), field=FIELD) == b"token"
    jwt.unlink()
    vault.tokens.clear()
    with pytest.raises(KeysAway, match="cannot be read"):
        seal(b"token", field=FIELD)


def test_a_token_that_an_agent_renews_is_read_again(vault, settings, tmp_path):
    sink = tmp_path / "token"
    sink.write_text("root-token\n")
    settings.SEALING_VAULT = vault_settings(vault, token="", token_file=str(sink))
    seal(b"token", field=FIELD)
    vault.tokens = {"renewed"}
    sink.write_text("renewed\n")
    seal(b"token", field=FIELD)


def test_namespaces_and_other_mounts(settings):
    with running_vault(namespace="platform/eu", mount="berth-transit") as vault:
        settings.SEALING_PROVIDER = "vault-transit"
        settings.SEALING_VAULT = vault_settings(vault, namespace="platform/eu", mount="berth-transit")
        assert unseal(seal(b"token", field=FIELD), field=FIELD) == b"token"
        settings.SEALING_VAULT = vault_settings(vault, mount="berth-transit")
        with pytest.raises(KeysAway, match="no transit key berth"):
            newest_head()


def test_only_the_given_authority_is_trusted(settings, tmp_path):
    file = tmp_path / "ca.pem"
    file.write_text(authority().pem)
    with running_vault(tls=loopback()) as vault:
        settings.SEALING_PROVIDER = "vault-transit"
        settings.SEALING_VAULT = vault_settings(vault)
        with pytest.raises(KeysAway, match="does not answer"):
            seal(b"token", field=FIELD)
        assert vault.calls == []
        settings.SEALING_VAULT = vault_settings(vault, ca_file=str(file))
        assert unseal(seal(b"token", field=FIELD), field=FIELD) == b"token"


def test_proxies_of_the_environment_are_not_asked(vault, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    seal(b"token", field=FIELD)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"address": "http://vault.example:8200"}, "BERTH_VAULT_ADDR must begin with https"),
        ({"auth": "ldap"}, "BERTH_VAULT_AUTH must be one of"),
        ({"token": ""}, "BERTH_VAULT_TOKEN_FILE"),
        ({"auth": "approle"}, "BERTH_VAULT_ROLE and BERTH_VAULT_SECRET_ID_FILE"),
        ({"auth": "kubernetes"}, "BERTH_VAULT_ROLE"),
        ({"ca_file": "/nowhere.pem"}, "BERTH_VAULT_CA_FILE"),
    ],
)
def test_how_vault_is_set_up_wrongly_is_named(changes, told):
    with pytest.raises(ImproperlyConfigured, match=told):
        Transit(VaultSettings(**({"address": "https://vault.example:8200", "token": "t"} | changes)))


def test_a_token_shows_in_no_repr():
    assert "secret-token" not in repr(VaultSettings(address="https://v", token="secret-token"))
