"""Every way in which a connection can fail has a name, a message, and something to do about it."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest

from clusters.kube import kinds
from clusters.kube.check import connection_check
from clusters.kube.client import KubeClient
from clusters.kube.credentials import Credentials
from clusters.kube.grants import Mode, needed
from clusters.kube.renewal import renew
from tests.fakes.kube import tls
from tests.kube import things

pytestmark = pytest.mark.kubernetes


def check(credentials, **how):
    report = connection_check(credentials, connect_timeout_s=0.5, read_timeout_s=0.5, **how)
    assert report.title
    assert report.message
    assert bool(report.remedy) is not report.ok
    for each in report.failures:
        assert each.text.startswith(each.title)
    return report


def test_a_connection_that_works(fake_kube):
    fake_kube.serve(kinds.SERVICE_MONITOR)
    report = check(fake_kube.admin)
    assert (report.ok, report.code, report.user, report.version) == (True, "ok", "admin", "v1.36.0")
    assert report.apis == ("ServiceMonitor",)
    assert report.missing == ()
    assert "ServiceMonitor" in report.message


@pytest.mark.kubernetes(real=True)
def test_a_real_connection_that_works(apiserver):
    report = connection_check(apiserver.admin)
    assert report.ok
    assert report.user == "admin"


def test_a_check_changes_nothing(fake_kube):
    check(fake_kube.admin)
    assert fake_kube.writes == []
    assert fake_kube.changes == []


def test_nothing_listens_there(fake_kube):
    fake_kube.away()
    report = check(fake_kube.admin)
    assert report.code == "refused"
    assert fake_kube.server in report.message


def test_the_name_has_no_address():
    report = check(Credentials(server="https://nowhere.invalid:6443", token="t"))
    assert report.code == "dns"
    assert "nowhere.invalid" in report.message


def test_there_is_no_answer(fake_kube):
    fake_kube.hang(resource="/version")
    assert check(fake_kube.admin).code == "slow"


def test_the_connection_breaks(fake_kube):
    fake_kube.reset(9, resource="/version")
    assert check(fake_kube.admin).code == "reset"


@contextlib.contextmanager
def _server(context):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        if context is None:
                            connection.recv(65536)
                            connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
                        else:
                            context.wrap_socket(connection, server_side=True).close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


CERTIFICATES = [
    ("tls-unknown-ca", tls.Authority("Somebody"), {"addresses": ("127.0.0.1",)}),
    ("tls-host-name", tls.authority(), {"addresses": ("10.0.0.1",)}),
    ("tls-expired", tls.authority(), {"addresses": ("127.0.0.1",), "days": (-9, -2)}),
]


@pytest.mark.parametrize(("code", "authority", "how"), CERTIFICATES, ids=[row[0] for row in CERTIFICATES])
def test_certificates_that_are_not_to_be_trusted(code, authority, how):
    pair = authority.issue("localhost", **how)
    with _server(tls.server_context(*pair)) as server:
        report = check(Credentials(server=server, ca_data=tls.authority().pem, token="t"))
    assert report.code == code


def test_without_an_authority_the_public_ones_are_asked(fake_kube):
    assert check(Credentials(server=fake_kube.server, token="t")).code == "tls-unknown-ca"


def test_a_certificate_for_another_name_is_taken_where_that_name_is_given():
    authority = tls.authority()
    with _server(tls.server_context(*authority.issue("kubernetes"))) as server:
        named = Credentials(server=server, ca_data=authority.pem, token="t", server_name="kubernetes")
        assert check(named).code == "reset"  # past TLS, where this server says no more
        other = Credentials(server=server, ca_data=authority.pem, token="t", server_name="other")
        assert check(other).code == "tls-host-name"


def test_the_port_speaks_no_tls():
    with _server(None) as server:
        assert check(Credentials(server=server, token="t")).code == "tls"


def test_the_credentials_are_not_accepted(fake_kube):
    report = check(fake_kube.credentials("nobodys"))
    assert report.code == "unauthorized"
    assert report.user == ""


@pytest.mark.kubernetes(real=True)
def test_a_real_server_does_not_accept_them(apiserver):
    assert connection_check(apiserver.credentials("nobodys")).code == "unauthorized"


def test_the_cluster_takes_us_for_nobody(fake_kube):
    """The Authorization header was lost on the way."""
    report = check(fake_kube.credentials(fake_kube.token("system:anonymous", "system:masters")))
    assert report.code == "anonymous"


def test_the_version_is_too_old_and_why(fake_kube):
    fake_kube.set_version(1, 29)
    report = check(fake_kube.admin)
    assert report.code == "version-too-old"
    assert report.version == "v1.29.0"
    assert "1.30" in report.message
    assert "ValidatingAdmissionPolicies" in report.message
    fake_kube.set_version(1, 30)
    assert check(fake_kube.admin).ok


def test_every_missing_permission_is_listed(fake_kube):
    report = check(fake_kube.credentials(fake_kube.token("someone")))
    assert report.code == "forbidden"
    assert report.user == "someone"
    expected = {
        f"{verb} {grant.resource}{'.' + grant.group if grant.group else ''}"
        + (" in all namespaces" if grant.kind.namespaced else "")
        for grant in needed(Mode.CLUSTER, ())
        if grant.resource != "serviceaccounts/token"
        for verb in grant.verbs
    }
    assert set(report.missing) == expected
    assert "list nodes" in report.missing
    assert "create deployments.apps in all namespaces" in report.missing
    assert report.missing[0] in report.message


def _account(server, namespace: str, *rules) -> Credentials:
    with contextlib.closing(KubeClient(server.admin)) as admin:
        admin.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        admin.apply(things.account(namespace))
        admin.apply(things.role(namespace, *rules))
        admin.apply(things.binding(namespace, "berth"))
        token, _ = renew(admin, namespace, "berth", 600)
    return server.credentials(token)


def test_with_given_namespaces_only_those_are_asked_about(kube_server):
    with contextlib.closing(KubeClient(kube_server.admin)) as admin:
        served = tuple(admin.features(fresh=True))
    rules = [(grant.group, grant.resource, list(grant.verbs)) for grant in needed(Mode.NAMESPACES, served)]
    credentials = _account(kube_server, "given", *rules)
    assert connection_check(credentials, namespaces=["given"]).ok
    assert connection_check(credentials, namespaces=["given", "kube-system"]).code == "forbidden"
    less = [rule for rule in rules if rule[1] != "pods/log"]
    report = connection_check(_account(kube_server, "given", *less), namespaces=["given"])
    assert report.missing == ("get pods/log in given",)


def test_a_namespace_that_grants_all_is_asked_about_once(fake_kube):
    rules = [(grant.group, grant.resource, list(grant.verbs)) for grant in needed(Mode.NAMESPACES, ())]
    credentials = _account(fake_kube, "given", *rules)
    fake_kube.forget_calls()
    assert check(credentials, namespaces=["given"]).ok
    asked = [call.resource for call in fake_kube.calls]
    assert asked.count("selfsubjectrulesreviews") == 1
    assert "selfsubjectaccessreviews" not in asked


def test_an_account_that_cannot_renew_its_token_is_told(kube_server):
    rules = [
        (grant.group, grant.resource, list(grant.verbs))
        for grant in needed(Mode.NAMESPACES)
        if grant.resource != "serviceaccounts/token"
    ]
    report = connection_check(_account(kube_server, "unrenewed", *rules), namespaces=["unrenewed"])
    assert report.missing == ("create serviceaccounts/token of berth in unrenewed",)


def test_a_given_namespace_that_is_not_there(fake_kube):
    report = check(fake_kube.admin, namespaces=["default", "nowhere"])
    assert report.code == "namespace-missing"
    assert "nowhere" in report.message
    assert "default" not in report.message


def test_a_server_in_trouble(fake_kube):
    fake_kube.fail(503, 9, reason="ServiceUnavailable", message="etcd is away", resource="selfsubjectreviews")
    report = check(fake_kube.admin)
    assert report.code == "server-trouble"
    assert "etcd is away" in report.message
    assert report.version == "v1.36.0"


def test_a_busy_server(fake_kube, monkeypatch):
    monkeypatch.setattr("clusters.kube.client.time.sleep", lambda seconds: None)
    fake_kube.busy(9)
    assert check(fake_kube.admin).code == "busy"
