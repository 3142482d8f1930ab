"""Run in a process of its own by the test that kills it: close a month over and over until it is done."""

from __future__ import annotations

import datetime as dt
import sys

import django

if __name__ == "__main__":
    django.setup()
    from billing.statements import run

    run.CHUNK = 3
    month, now = sys.argv[1:]
    print("ready", flush=True)
    sys.stdin.readline()
    done = run.statement_run(
        month=dt.date.fromisoformat(month), now=dt.datetime.fromisoformat(now), close=True, workers=2
    )
    print(done.closed)
