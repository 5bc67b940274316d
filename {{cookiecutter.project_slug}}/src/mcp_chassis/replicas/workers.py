"""Several processes that serve one port of one machine. The parent only watches, and replaces a worker that has died.

uvicorn has this too, but its workers could not end open streams with a result.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess

import structlog

from ..settings import EXIT_CONFIG, SettingsError
from ..state import EXIT_UNAVAILABLE, StartError

log = structlog.get_logger("workers")

_CHECK_SECONDS = 0.5  # also the pause before a worker is replaced
_CANNOT_START = {EXIT_CONFIG, EXIT_UNAVAILABLE}
_RETRY_SECONDS = 10.0  # before one that could not start is replaced: the others may serve, or be about to end as well


def run_workers(count: int, work: Callable[[], None]) -> None:
    """Run `work` in `count` processes until SIGTERM or SIGINT, then let them finish.

    Args:
        work: what each does. It must end on SIGTERM, and it is pickled.

    Raises:
        SystemExit: if none of them can start.
    """
    stop = threading.Event()
    for name in ("SIGTERM", "SIGINT", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: stop.set())
    workers = [_start(work) for _ in range(count)]
    ended: dict[BaseProcess, float] = {}
    while not stop.wait(_CHECK_SECONDS):
        if {worker.exitcode for worker in workers} <= _CANNOT_START:
            raise SystemExit(workers[0].exitcode)
        for place, worker in enumerate(workers):
            if worker.is_alive():
                continue
            first = ended.setdefault(worker, time.monotonic())
            if worker.exitcode not in _CANNOT_START or time.monotonic() - first > _RETRY_SECONDS:
                log.error("a worker has ended and is replaced", worker=worker.pid, exit_code=worker.exitcode)
                del ended[worker]
                workers[place] = _start(work)
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join()  # their own SHUTDOWN_TIMEOUT bounds this


def _start(work: Callable[[], None]) -> BaseProcess:
    # Not forked: a child must not inherit an event loop, threads or connections.
    process = multiprocessing.get_context("spawn").Process(target=_run, args=(work,))
    process.start()
    log.info("a worker has started", worker=process.pid)
    return process


def _run(work: Callable[[], None]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        work()
    except (SettingsError, StartError) as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(EXIT_CONFIG if isinstance(error, SettingsError) else EXIT_UNAVAILABLE) from None


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
