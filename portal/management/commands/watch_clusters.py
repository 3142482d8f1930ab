"""Watch every cluster until told to end: wake endpoints when engines change, keep the inventory fresh.

Any number may run: each cluster is watched by one of them, and taken over when that one ends.
"""

from __future__ import annotations

import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand

from clusters.endpoints.watching import Watcher


class Command(BaseCommand):
    help = __doc__

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, lambda *_: stop.set())
        Watcher().run(stop)
