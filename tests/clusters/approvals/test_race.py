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
from tests.clusters.approvals.conftest import Office, make_office


@pytest.mark.usefixtures("committed_db")
def test_of_two_who_decide_at_once_one_wins():
    office = make_office()
    office.rule("price-above", amount=Decimal("0.01"))
    for other in ("approve", "refuse"):
        endpoint = office.order(f"chat-{other}")
        request = office.request(endpoint)
        outcomes = _at_once(office, request, {"owner": "approve", "admin": other})
        assert len(outcomes) == 2
        assert outcomes.count(409) == 1
        won = next(each for each in outcomes if each != 409)
        with scope.tenant(office.tenant.id):
            assert ApprovalRequest.objects.get(id=request.id).state == won
            placed = Reservation.objects.held().filter(endpoint=endpoint)
            assert placed.gpus() == (1 if won == "approved" else 0)


def _at_once(office: Office, request: ApprovalRequest, wishes: dict[str, str]) -> list[str | int]:
    """Have people decide in threads of their own; give the state that each left, or the status of the refusal."""
    barrier, outcomes = threading.Barrier(len(wishes)), []

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

    threads = [threading.Thread(target=decide, args=wish) for wish in wishes.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes
