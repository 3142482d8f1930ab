"""Work spread over processes of its own, with Django set up for this one's database: threads would share a core."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


class ProcessLost(RuntimeError):
    """A process was killed; the transactions that it had committed stay."""


def spread(work: Callable[[Task], Result], tasks: Iterable[Task], *, workers: int) -> Iterator[Result]:
    """Give ``work`` of each task, in their order, done by ``workers`` new processes.

    ``work`` is a function of a module; tasks and results are pickled. The processes start while the tasks are made,
    and end when this one does, however it does.

    Raises:
        ProcessLost: one of them was killed.
    """
    from django.db import connection

    pool = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(connection.settings_dict,),
    )
    try:
        pool.submit(os.getpid)
        yield from pool.map(work, tasks)
    except BrokenProcessPool as error:
        raise ProcessLost(
            "a process was killed before its work was done; what it had committed stays"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(database: dict[str, Any]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import django
    from django.conf import settings

    settings.DATABASES["default"] = database
    django.setup()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
