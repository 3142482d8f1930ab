"""``python -m bench.tools.roll_up REQUESTS``: roll usage up until that many requests are counted; print the seconds.

Runs in a process of its own because Django is set up for one database.
"""

from __future__ import annotations

import sys
import time

import django


def main(requests: int) -> float:
    """Give the seconds it took.

    Raises:
        RuntimeError: more were counted than there are.
    """
    from django.db.models import Sum

    from billing.metering.rollups import roll_up
    from billing.models import UsageHour
    from tenants import scope

    begun = time.perf_counter()
    counted = 0
    while counted < requests:
        roll_up()
        with scope.platform("measure the roll-up"):
            counted = UsageHour.objects.aggregate(sum=Sum("requests"))["sum"] or 0
        if counted < requests:
            time.sleep(0.02)  # a transaction that still runs holds the mark back
    if counted > requests:
        raise RuntimeError(f"{counted} requests were counted, {requests} were sent")
    return time.perf_counter() - begun


if __name__ == "__main__":
    django.setup()
    print(main(int(sys.argv[1])))
