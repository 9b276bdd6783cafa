"""Where nodes run: any ``concurrent.futures.Executor``, one node at a time on each."""

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from typing import Any

from whytransfer.study.nodes import start_worker

MakeExecutor = Callable[[], Executor]
"""Makes the executor of one slot; called again when a crash has broken the slot's executor."""


def local() -> Executor:
    """Makes one fresh process; it is kept for many nodes, since starting torch takes seconds.

    One compute thread per process: processes side by side are faster than threads that fight for
    the same cores, and the order of additions, so every bit, does not depend on the machine's size.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(max_workers=1, mp_context=context, initializer=start_worker)


class Here(Executor):
    """Runs in the caller's own process: for debugging and for tests."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Runs at once and returns a finished future."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future
