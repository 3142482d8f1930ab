"""A kubeconfig is data: what it may hold, and what is refused with which words."""

from __future__ import annotations

import base64
import contextlib
import copy
import os
import tempfile

import pytest
import yaml

from clusters.kube.client import KubeClient
from clusters.kube.credentials import Credentials, KubeconfigError, from_kubeconfig
from tests.fakes.kube import tls


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def kubeconfig() -> dict:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "main",
        "contexts": [
            {"name": "main", "context": {"cluster": "gpu", "user": "berth", "namespace": "ignored"}},
            {"name": "other", "context": {"cluster": "lab", "user": "someone"}},
        ],
        "clusters": [
            {
                "name": "gpu",
                "cluster": {
                    "server": "https://gpu.example:6443",
                    "certificate-authority-data": encoded(tls.authority().pem),
                },
            },
            {"name": "lab", "cluster": {"server": "https://lab.example", "tls-server-name": "kubernetes"}},
        ],
        "users": [
            {"name": "berth", "user": {"token": "a-token"}},
            {"name": "someone", "user": {"token": "another-token"}},
        ],
    }


def test_the_current_context_is_read():
    assert from_kubeconfig(yaml.safe_dump(kubeconfig())) == Credentials(
        server="https://gpu.example:6443", ca_data=tls.authority().pem, token="a-token"
    )


def test_another_context_can_be_named():
    assert from_kubeconfig(yaml.safe_dump(kubeconfig()), context="other") == Credentials(
        server="https://lab.example", server_name="kubernetes", token="another-token"
    )


def test_a_client_certificate_is_read():
    certificate, key = tls.authority().issue("berth", server=False)
    document = kubeconfig()
    document["users"][0]["user"] = {
        "client-certificate-data": encoded(certificate),
        "client-key-data": encoded(key),
    }
    found = from_kubeconfig(yaml.safe_dump(document))
    assert (found.client_certificate, found.client_key, found.token) == (certificate, key, "")


REFUSED = [
    ("user", {"exec": {"command": "touch", "args": ["/tmp/x"]}}, "exec", "runs no program"),
    ("user", {"auth-provider": {"name": "gcp"}}, "auth-provider", "plug-in"),
    ("user", {"tokenFile": "/etc/passwd"}, "tokenFile", "opens no file"),
    ("user", {"client-certificate": "/etc/a.crt"}, "client-certificate", "opens no file"),
    ("user", {"client-key": "/etc/a.key"}, "client-key", "opens no file"),
    ("user", {"as": "admin"}, "as", "impersonates nobody"),
    ("user", {"as-uid": "1"}, "as-uid", "impersonates nobody"),
    ("user", {"as-groups": ["system:masters"]}, "as-groups", "impersonates nobody"),
    ("user", {"as-user-extra": {"a": ["b"]}}, "as-user-extra", "impersonates nobody"),
    ("user", {"username": "admin"}, "username", "not accepted"),
    ("user", {"password": "secret"}, "password", "not accepted"),
    ("cluster", {"certificate-authority": "/etc/ca.crt"}, "certificate-authority", "opens no file"),
    ("cluster", {"insecure-skip-tls-verify": True}, "insecure-skip-tls-verify", "always verifies"),
    ("cluster", {"proxy-url": "http://proxy"}, "proxy-url", "HTTPS_PROXY"),
]


@pytest.mark.parametrize(("where", "extra", "field", "words"), REFUSED, ids=[row[2] for row in REFUSED])
def test_what_would_run_read_or_weaken_is_refused_by_name(where, extra, field, words):
    document = kubeconfig()
    document[f"{where}s"][0][where].update(extra)
    name = document[f"{where}s"][0]["name"]
    with pytest.raises(KubeconfigError, match=words) as caught:
        from_kubeconfig(yaml.safe_dump(document))
    assert str(caught.value).startswith(f"{where}s[{name}].{where}.{field}: ")


def test_what_another_context_holds_does_not_matter():
    document = kubeconfig()
    document["users"][1]["user"]["exec"] = {"command": "never"}
    assert from_kubeconfig(yaml.safe_dump(document)).token == "a-token"


def _changed(path: str, value) -> dict:
    document = copy.deepcopy(kubeconfig())
    holder = document
    *parents, last = path.split(".")
    for part in parents:
        holder = holder[int(part) if part.isdecimal() else part]
    if value is None:
        del holder[int(last) if last.isdecimal() else last]
    else:
        holder[int(last) if last.isdecimal() else last] = value
    return document


MALFORMED = [
    ("kind", "Pod", "kubeconfig: kind"),
    ("current-context", None, "current-context:"),
    ("current-context", "nowhere", "contexts: 'nowhere' is not there"),
    ("contexts", None, "contexts: there must be a list"),
    ("contexts.0.context.user", None, r"contexts\[main\]: it must name"),
    ("contexts.0.context.user", "nobody", "users: 'nobody' is not there"),
    ("clusters.1.name", "gpu", "clusters: 'gpu' is there twice"),
    ("users.0.user", "text", r"users\[berth\].user: there must be a mapping"),
    ("users.0.user.token", 17, r"users\[berth\].user.token: it must be text"),
    ("users.0.user.token", "two words", "token: it holds spaces"),
    ("users.0.user.token", "smörgås", "token: it holds characters"),
    ("users.0.user.token", None, "user: give either"),
    ("clusters.0.cluster.server", None, "server:"),
    ("clusters.0.cluster.server", "http://gpu.example", "server: .* must be an https"),
    ("clusters.0.cluster.server", "file:///etc/passwd", "server: .* must be an https"),
    ("clusters.0.cluster.server", "https://a:b@gpu.example", "server: give the address alone"),
    ("clusters.0.cluster.server", "https://gpu.example:port", "server: .* is no address"),
    ("clusters.0.cluster.certificate-authority-data", "%%%", "certificate-authority-data: it is not base64"),
    (
        "clusters.0.cluster.certificate-authority-data",
        "YWJj",
        "certificate-authority-data: it holds no certif",
    ),
    (
        "users.0.user.client-certificate-data",
        encoded("x"),
        "client-certificate-data: it holds no certificate",
    ),
    ("users.0.user.client-key-data", encoded("x"), "client-key-data: it holds no unencrypted key"),
]


@pytest.mark.parametrize(("path", "value", "words"), MALFORMED)
def test_what_is_malformed_is_named(path, value, words):
    with pytest.raises(KubeconfigError, match=words):
        from_kubeconfig(yaml.safe_dump(_changed(path, value)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "a: [",
        "\x00",
        "!!python/object/apply:os.system ['true']",
        "a: &a [1]\nb: *a\n",
        "x" * 2_000_000,
    ],
    ids=["empty", "list", "broken", "nul", "python", "alias", "long"],
)
def test_what_is_no_kubeconfig_is_refused(text):
    with pytest.raises(KubeconfigError, match=r"^kubeconfig: "):
        from_kubeconfig(text)


def test_secrets_are_not_shown():
    certificate, key = tls.authority().issue("berth", server=False)
    for credentials in (
        Credentials(server="https://a", token="hidden-token"),
        Credentials(server="https://a", client_certificate=certificate, client_key=key),
    ):
        assert "hidden-token" not in repr(credentials)
        assert "PRIVATE KEY" not in repr(credentials)


def test_a_token_and_a_certificate_together_are_refused():
    certificate, key = tls.authority().issue("berth", server=False)
    with pytest.raises(KubeconfigError, match="either a token or"):
        Credentials(server="https://a", token="t", client_certificate=certificate, client_key=key)


@pytest.mark.kubernetes
def test_the_authorization_header_leaves_the_socket(fake_kube):
    """Some releases of the official client sent none, and every request was made as nobody."""
    text = yaml.safe_dump(
        {
            **kubeconfig(),
            "clusters": [
                {
                    "name": "gpu",
                    "cluster": {
                        "server": fake_kube.server,
                        "certificate-authority-data": encoded(fake_kube.ca_data),
                    },
                }
            ],
            "users": [{"name": "berth", "user": {"token": fake_kube.token("berth")}}],
        }
    )
    for credentials in (from_kubeconfig(text), fake_kube.credentials(fake_kube.token("berth"))):
        with contextlib.closing(KubeClient(credentials)) as client:
            assert client.whoami() == "berth"
        assert fake_kube.calls[-1].authorization == f"Bearer {credentials.token}"


@pytest.mark.kubernetes
def test_a_client_certificate_is_shown_to_the_server_and_left_nowhere(fake_kube):
    certificate, key = tls.authority().issue("someone", server=False)
    before = set(os.listdir(tempfile.gettempdir()))
    credentials = Credentials(
        server=fake_kube.server, ca_data=fake_kube.ca_data, client_certificate=certificate, client_key=key
    )
    with contextlib.closing(KubeClient(credentials)) as client:
        assert client.whoami() == "someone"
    assert fake_kube.calls[-1].authorization == ""
    assert not {name for name in set(os.listdir(tempfile.gettempdir())) - before if name.startswith("berth-")}


@pytest.mark.parametrize(
    "text",
    [
        "users:\n- name: u\n  user:\n    token: eyJsecretsecret: x\n",
        "users: [{name: u, user: {token: 'eyJsecretsecret}}]\n",
        "users: [{name: u, user: {token: !eyJsecretsecret x}}]\n",
        "users: [{name: u, user: {token: &eyJsecretsecret x, b: &eyJsecretsecret y}}]\n",
        'token: "eyJsecretsecret\\q"\n',
        "token: eyJsecretsecret\n\tb: c\n",
        "token: eyJsecretsecret\x00\n",
    ],
)
def test_a_kubeconfig_that_is_no_yaml_is_not_shown_again(text):
    with pytest.raises(KubeconfigError) as refused:
        from_kubeconfig(text)
    assert "secret" not in str(refused.value)
