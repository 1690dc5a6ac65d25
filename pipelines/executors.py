"""One interface over three ways to run tasks: a window of submitted work, results as they come.

A task is a module-level function of small arguments; it returns a small result. At most
``2 x workers`` tasks are in flight: a scheduler never sees the whole graph, and little finished
work is lost with a worker.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from eventkit._optional import require
from eventkit.errors import EventKitError, SettingsError

EXECUTORS = ("auto", "inline", "threads", "dask")
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """How to run; nothing here changes the bytes of the output."""

    executor: str = "auto"
    workers: int | None = None
    strict: bool = False
    max_bad: float = 100.0


@dataclass(frozen=True, slots=True)
class Pool:
    """An executor that is open; ``backend`` is None for inline."""

    name: str
    workers: int
    backend: Executor | None

    def run(
        self, task: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[tuple[Item, Result]]:
        """Run ``task`` on every item; yield (item, result) in order of completion.

        An exception of a task is raised here; what is in flight is cancelled or waited for.
        """
        if self.backend is None:
            yield from ((item, task(item)) for item in items)
            return
        running: dict[Future[Result], Item] = {}
        source = iter(items)
        try:
            while True:
                while len(running) < 2 * self.workers:
                    try:
                        item = next(source)
                    except StopIteration:
                        break
                    running[self.backend.submit(task, item)] = item
                if not running:
                    return
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    item = running.pop(future)
                    yield item, _result(future)
        finally:
            for future in running:
                future.cancel()


def _result(future: Future[Result]) -> Result:
    try:
        return future.result()
    except Exception as err:
        if type(err).__name__ != "KilledWorker":  # dask's; not imported where dask is not used
            raise
        msg = (
            f"a worker process died more than once ({err}): out of memory, or a crash in a "
            "decoder; run again with --executor inline to see where"
        )
        raise WorkerDiedError(msg) from err


class WorkerDiedError(EventKitError):
    """A task took its worker process down."""

    exit_code = 1


@contextmanager
def open_pool(name: str, *, workers: int | None = None, tasks: int | None = None) -> Iterator[Pool]:
    """Open an executor.

    Parameters
    ----------
    name : {"auto", "inline", "threads", "dask"}
        ``auto``: threads, or inline for one task or one core. Kernels and codecs release the
        GIL. ``dask``: a LocalCluster of processes; a task whose worker dies is tried again.
    workers : int, optional
        Default: the processors this process may use.
    tasks : int, optional
        How many there will be, where it is known.
    """
    count = workers if workers is not None else len(os.sched_getaffinity(0))
    if count < 1:
        msg = f"expected at least one worker, got {count}"
        raise SettingsError(msg)
    if tasks is not None:
        count = max(1, min(count, tasks))
    if name == "auto":
        name = "inline" if count == 1 else "threads"
    if name == "inline":
        yield Pool("inline", 1, None)
    elif name == "threads":
        backend = ThreadPoolExecutor(count)
        try:
            yield Pool("threads", count, backend)
        finally:
            backend.shutdown(wait=True, cancel_futures=True)
    elif name == "dask":
        with _cluster(count) as client:
            yield Pool("dask", count, client.get_executor(pure=False))
    else:
        msg = f"expected --executor among {', '.join(EXECUTORS)}, got {name!r}"
        raise SettingsError(msg)


@contextmanager
def _cluster(workers: int) -> Iterator[Any]:
    dask = require("dask", extra="pipelines", purpose="the dask executor")
    distributed = require("distributed", extra="pipelines", purpose="the dask executor")
    # Spilling and pausing wait for memory that does not come back; a task is bounded anyway.
    settings = {
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": 0.85,
        "distributed.worker.memory.terminate": 0.95,
    }
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(settings))
        with _signals_after():  # a cluster that is interrupted while it starts cannot be closed
            cluster = distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                dashboard_address="127.0.0.1:0",
                silence_logs=50,
            )
            stack.enter_context(cluster)
            client = stack.enter_context(distributed.Client(cluster))
        yield client


@contextmanager
def _signals_after() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back until the block is over."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {n: signal.signal(n, lambda number, _: came.append(number)) for n in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])
