"""Invitations through the REST API."""

from __future__ import annotations

import pytest

from tenants.models import Role
from tests.api.conftest import client_of
from tests.api.contract import API, CreateContract, assert_problem
from tests.identity.conftest import links_mailed

pytestmark = pytest.mark.django_db


class TestInvitationsApi(CreateContract):
    path = "invitations"
    may_create = frozenset({Role.OWNER, Role.ADMIN})

    def body(self, number: int = 0) -> dict:
        return {"email": f"ada{number}@new.example", "role": "viewer"}

    def test_every_role_may_read(self, owner, tenant):
        made = self.make(owner)
        for role in Role.values:
            answer = client_of(tenant, role).get(f"{API}/{self.path}/{made}")
            assert answer.status_code == (200 if role in self.may_create else 403)

    def test_it_is_sent_again_and_revoked(self, owner, mailoutbox):
        made = self.make(owner)
        first = links_mailed(mailoutbox)[-1]
        assert owner.post(f"{API}/{self.path}/{made}:resend").json()["state"] == "pending"
        assert links_mailed(mailoutbox)[-1] != first
        assert first.rpartition("/")[2] not in str(owner.get(f"{API}/{self.path}/{made}").json())
        assert owner.post(f"{API}/{self.path}/{made}:revoke").json()["state"] == "revoked"
        assert owner.delete(f"{API}/{self.path}/{made}").status_code == 204
        assert_problem(owner.post(f"{API}/{self.path}/{made}:resend"), 409, "invitation-closed")
