"""Opening an executor by its name or by the address of a scheduler."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from eventkit.errors import SettingsError
from eventkit.location import Location
from pipelines.executors.alone import Death, run_alone
from pipelines.executors.notes import Notes
from pipelines.executors.pool import Pool
from pipelines.executors.site import Site
from pipelines.scratch import scratch_home

EXECUTORS = ("auto", "inline", "threads", "processes")
_ADDRESS = re.compile(r"(tcp|tls)://[^\s/]+:\d+")
STOP_S = 3.0
_HIDDEN_NOTES = ".eventkit/running"
Item = TypeVar("Item")
Result = TypeVar("Result")


def checked_name(name: str) -> str:
    """Return the name of an executor or an address as it was given.

    Raises
    ------
    SettingsError
        If it is neither.
    """
    if name not in EXECUTORS and not _ADDRESS.fullmatch(name):
        msg = (
            f"expected --executor {', '.join(EXECUTORS)}, tcp://HOST:PORT or tls://HOST:PORT, "
            f"got {name!r}"
        )
        raise SettingsError(msg)
    return name


def count_workers(workers: int | None, *, tasks: int | None = None) -> int:
    """Return how many workers there are on this machine: no more than tasks."""
    count = workers if workers is not None else len(os.sched_getaffinity(0))
    if count < 1:
        msg = f"expected at least one worker, got {count}"
        raise SettingsError(msg)
    return count if tasks is None else max(1, min(count, tasks))


@contextmanager
def open_pool(
    name: str, *, workers: int | None = None, tasks: int | None = None, site: Site | None = None
) -> Iterator[Pool]:
    """Open an executor.

    Parameters
    ----------
    name : {"auto", "inline", "threads", "processes"} or address
        ``auto``: threads, or inline for one task or one core. ``processes``: a cluster of dask on
        this machine. ``tcp://`` and ``tls://``: a scheduler that is there already.
    workers : int, optional
        Default: the processors this process may use, or all threads of a cluster's workers.
    tasks : int, optional
        How many there will be, where it is known.
    site : Site, optional
        Needed where tasks write: has the notes of what runs, and is looked for by every worker of
        a cluster.

    Raises
    ------
    SettingsError
        For a name that is none.
    ClusterError
        If there is no scheduler, no worker, or one that does not fit; see `fit`.
    """
    checked_name(name)
    if "://" in name:
        from pipelines.executors.cluster import connect

        with connect(name, limit=workers, site=site or Site()) as cluster:
            yield Pool(name, cluster.workers, cluster)
        return
    count = count_workers(workers, tasks=tasks)
    if name == "auto":
        name = "inline" if count == 1 else "threads"
    if name == "processes":
        from pipelines.executors.cluster import start_here

        with start_here(count) as cluster:
            yield Pool(name, count, cluster)
        return
    with _notes(site) as notes:
        if name == "inline":
            yield Pool(name, 1, _Inline(notes), notes)
            return
        with _open_threads(count, notes) as backend:
            yield Pool(name, count, backend, notes)


@contextmanager
def _open_threads(count: int, notes: Notes | None) -> Iterator[_Threads]:
    """Open threads; after a signal what runs has `STOP_S` to finish.

    What does not is left to end with the process: it has no receipt, so nothing of it counts.
    """
    threads = ThreadPoolExecutor(count)
    backend = _Threads(threads, 2 * count, notes)
    try:
        yield backend
    except BaseException as err:
        interrupted = not isinstance(err, Exception)
        threads.shutdown(wait=not interrupted, cancel_futures=True)
        if interrupted:
            wait(backend.running, timeout=STOP_S)
            if notes is not None:
                notes.forget()
        raise
    threads.shutdown()


@contextmanager
def _notes(site: Site | None) -> Iterator[Notes | None]:
    if site is None or site.folder is None:
        yield None
        return
    notes = Notes(_notes_of(site.folder))
    try:
        yield notes
    except BaseException:
        notes.close()
        raise
    notes.clear()


def _notes_of(folder: Location) -> Path:
    """Return where notes are kept: of what runs on this machine, so not behind a URL."""
    if isinstance(folder, Path):
        return folder / _HIDDEN_NOTES
    name = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    return scratch_home() / "running" / name


class _Here:
    """What runs in this process: a crash ends it, and the notes say where."""

    deaths: tuple[type[Exception], ...] = ()

    def __init__(self, notes: Notes | None) -> None:
        self._notes = notes

    def noted(self, task: Callable[[Item], Result], item: Item) -> Result:
        if self._notes is None:
            return task(item)
        with self._notes.of(task, item):
            return task(item)

    def alone(self, task: Callable[[Item], Result], item: Item) -> Result | Death:
        return run_alone(task, item)

    def check(self) -> None:
        """Do nothing: who waits is who works."""


class _Inline(_Here):
    window = 1
    """A second task would hold the result of the first back."""

    def submit(self, task: Callable[[Item], Result], item: Item) -> Future[Result]:
        future: Future[Result] = Future()
        future.set_result(self.noted(task, item))  # what it raises is raised at once
        return future


class _Threads(_Here):
    def __init__(self, threads: ThreadPoolExecutor, window: int, notes: Notes | None) -> None:
        super().__init__(notes)
        self._threads, self.window = threads, window
        self.running: set[Future[Any]] = set()

    def submit(self, task: Callable[[Item], Result], item: Item) -> Future[Result]:
        future = self._threads.submit(self.noted, task, item)
        self.running.add(future)
        future.add_done_callback(self.running.discard)
        return future
