"""``python -m tests.billing.metering_worker ingest FILE`` or ``… roll-up``: works until it is done or killed.

For tests that kill it. Each line of ``FILE`` is a batch; a line is printed once all is set up.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Final

import django
import msgspec

#: Between two pieces of work, so that however fast the machine is there is something left to be killed at.
BREATH_S: Final = 0.003


def main(words: list[str]) -> None:
    django.setup()
    from billing.metering.ingest import ingest
    from billing.metering.rollups import roll_up
    from gateway.contract import UsageBatch
    from tests.billing.usage import NOW

    print("ready", flush=True)
    if words[0] == "ingest":
        for line in Path(words[1]).read_bytes().splitlines():
            ingest(batch=msgspec.json.decode(line, type=UsageBatch), now=NOW)
            time.sleep(BREATH_S)
        return
    while True:
        roll_up(page=50, now=NOW)
        time.sleep(BREATH_S)


if __name__ == "__main__":
    main(sys.argv[1:])
