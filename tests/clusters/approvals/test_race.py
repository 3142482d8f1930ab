"""Two who decide at once, committed for real: one wins, the other is told."""

from __future__ import annotations

import threading
from decimal import Decimal

import pytest
from django.db import connection

from clusters.endpoints.approvals import decisions
from clusters.models import ApprovalRequest, Reservation
from tenants import scope
from tenants.errors import Conflict
from tests.clusters.approvals.conftest import make_office


@pytest.mark.usefixtures("committed_db")
@pytest.mark.parametrize("other", ["approve", "refuse"])
def test_of_two_who_decide_at_once_one_wins(other):
    office = make_office()
    office.rule("price-above", amount=Decimal("0.01"))
    office.order()
    request = office.request()
    barrier, outcomes = threading.Barrier(2), []

    def decide(who: str, how: str) -> None:
        try:
            barrier.wait(60)
            with scope.tenant(office.tenant.id):
                service = getattr(decisions, f"approval_{how}")
                outcomes.append(service(request=request, decider=office.decider(who)).state)
        except Conflict as error:
            outcomes.append(error.status)
        finally:
            connection.close()

    threads = [
        threading.Thread(target=decide, args=("owner", "approve")),
        threading.Thread(target=decide, args=("admin", other)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(outcomes) == 2
    assert outcomes.count(409) == 1
    won = next(each for each in outcomes if each != 409)
    with scope.tenant(office.tenant.id):
        assert ApprovalRequest.objects.get().state == won
        assert Reservation.objects.held().gpus() == (1 if won == "approved" else 0)
