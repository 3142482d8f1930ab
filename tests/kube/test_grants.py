"""The table of what Berth needs is well-formed and asks for nothing that would let it rise."""

from __future__ import annotations

from clusters.kube import kinds
from clusters.kube.grants import GRANTS, Mode, Place, needed

VERBS = {"get", "list", "watch", "create", "patch", "delete"}


def test_only_named_verbs_on_known_resources():
    for grant in GRANTS:
        assert grant.kind in kinds.KINDS
        assert set(grant.verbs) <= VERBS
        assert len(set(grant.verbs)) == len(grant.verbs) > 0
        assert grant.why
        assert grant.optional == (grant.kind in kinds.OPTIONAL)


def test_each_resource_stands_there_once_for_each_mode():
    keys = [(grant.mode, grant.group, grant.resource) for grant in GRANTS]
    assert len(set(keys)) == len(keys)


def test_permissions_are_never_its_to_give_and_secrets_never_its_to_read():
    assert not {grant.group for grant in GRANTS} & {
        "rbac.authorization.k8s.io",
        "admissionregistration.k8s.io",
    }
    for grant in GRANTS:
        if grant.resource == "secrets":
            assert not {"get", "list", "watch"} & set(grant.verbs)
        if grant.resource == "serviceaccounts/token":
            assert grant.place is Place.OWN
        assert grant.resource not in ("pods/exec", "pods/attach", "pods/portforward", "nodes/proxy")


def test_with_given_namespaces_nothing_beyond_them_is_asked_for():
    for grant in needed(Mode.NAMESPACES):
        assert grant.kind.namespaced or (grant.resource, grant.verbs) == ("namespaces", ("get",))


def test_optional_apis_are_asked_for_only_where_they_are_served():
    without = {grant.resource for grant in needed(Mode.CLUSTER, ())}
    with_one = {grant.resource for grant in needed(Mode.CLUSTER, (kinds.LEADER_WORKER_SET,))}
    assert with_one - without == {"leaderworkersets"}
