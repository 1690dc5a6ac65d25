"""Clusters of dask: one of processes on this machine, or one whose scheduler is there already."""

from __future__ import annotations

import importlib.util
import logging
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, wait
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, TypeVar

from eventkit._optional import require
from pipelines.executors.alone import Death, run_alone
from pipelines.executors.fit import ClusterError, Fit, misfit, probed, run_if_fit
from pipelines.executors.site import Site

logger = logging.getLogger(__name__)

GO_ON = "what is done is kept; run the same command again to go on"
NO_WORKER_S = 300.0
_LOOK_AGAIN_S = 0.2
_CHECK_S = 2.0
_STARTS = 3
_PURPOSE = "the executors of processes and clusters"
_TLS = {"ca-file": "CA_FILE", "client.cert": "CLIENT__CERT", "client.key": "CLIENT__KEY"}
Item = TypeVar("Item")
Result = TypeVar("Result")


class Cluster:
    """A client of dask as a backend; see `pipelines.executors.pool.Backend`.

    Parameters
    ----------
    client : distributed.Client
    address : str
        For messages.
    fit : Fit, optional
        What every worker is asked for; None where workers are children of this process.
    limit : int, optional
        Most threads that are used.
    """

    def __init__(self, client: Any, address: str, *, fit: Fit | None, limit: int | None) -> None:
        from distributed.scheduler import KilledWorker

        self._client, self._address, self._fit, self._limit = client, address, fit, limit
        self._executor = client.get_executor(pure=False)
        self.deaths: tuple[type[Exception], ...] = (KilledWorker,)
        self.workers = self._count()

    @property
    def window(self) -> int:
        """Tasks in flight: enough that no worker waits for the next."""
        return 2 * self.workers

    def submit(self, task: Callable[[Item], Result], item: Item) -> Future[Result]:
        """Send a task to the scheduler."""
        if self._fit is not None:
            task = partial(run_if_fit, self._fit, task)
        future: Future[Result] = self._executor.submit(task, item)
        return future

    def alone(self, task: Callable[[Item], Result], item: Item) -> Result | Death:
        """Run a task in a process of its own, on a worker's machine if workers are elsewhere."""
        if self._fit is None:
            return run_alone(task, item)
        while True:
            future = self.submit(partial(run_alone, task), item)
            while not wait([future], timeout=_CHECK_S).done:
                self.check()
            try:
                return future.result()
            except self.deaths:  # a machine that is out of memory may end the worker too
                return Death(-signal.SIGKILL)
            except CancelledError:  # the scheduler forgot it
                self.check()

    def check(self) -> None:
        """Wait until there is a scheduler with workers.

        Raises
        ------
        ClusterError
            If the scheduler does not come back, or no worker comes.
        """
        began = time.monotonic()
        patience = _patience()
        while True:
            if self._client.status == "closed":  # dask has tried for as long as it is told to
                msg = f"{self._address}: the scheduler went away; {GO_ON}"
                raise ClusterError(msg)
            if self._client.status == "running":
                threads = self._count()
                if threads:
                    self.workers = threads
                    return
                if time.monotonic() - began > patience:
                    msg = f"{self._address}: no worker for {patience:g} s; start some; {GO_ON}"
                    raise ClusterError(msg)
            time.sleep(_LOOK_AGAIN_S)

    def _count(self) -> int:
        """Return the threads of all workers; 0 too where the scheduler does not answer."""
        try:
            found = int(self._client.scheduler_info(n_workers=0)["total_threads"])
        except (OSError, TimeoutError):
            return 0
        return found if self._limit is None else min(found, self._limit)


@contextmanager
def start_here(workers: int) -> Iterator[Cluster]:
    """Start a cluster of processes on this machine, each watched by a nanny."""
    dask = require("dask", extra="pipelines", purpose=_PURPOSE)
    distributed = require("distributed", extra="pipelines", purpose=_PURPOSE)
    # Spilling and pausing wait for memory that does not come back; a task is bounded anyway.
    # A death is told at once: the task is run alone then, rather than beside others again.
    settings = {
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": 0.85,
        "distributed.worker.memory.terminate": 0.95,
        "distributed.scheduler.allowed-failures": 0,
    }
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(settings))
        with _signals_after():  # a cluster that is interrupted while it starts cannot be closed
            cluster = stack.enter_context(_local(distributed, workers))
            client = stack.enter_context(distributed.Client(cluster))
        yield Cluster(client, "processes", fit=None, limit=workers)


def _local(distributed: Any, workers: int) -> Any:
    """Start a scheduler and processes; anew if one of them dies before it is there.

    Raises
    ------
    ClusterError
    """
    for _ in range(_STARTS):
        try:
            return distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                dashboard_address="127.0.0.1:0",
                silence_logs=50,
            )
        except RuntimeError as err:
            why = _first_line(err)
            logger.warning("a worker process died while it started (%s)", why)
    msg = (
        f"processes: expected {workers} worker processes, got {why} {_STARTS} times: out of "
        "memory? give fewer --workers, or --executor threads"
    )
    raise ClusterError(msg)


@contextmanager
def connect(address: str, *, limit: int | None, site: Site) -> Iterator[Cluster]:
    """Use a scheduler that is there already, after a look at all its workers.

    Raises
    ------
    ClusterError
        If none answers, it has no worker, or one of them does not fit.
    """
    distributed = require("distributed", extra="pipelines", purpose=_PURPOSE)
    if address.startswith("tls://"):
        _require_certificates(address)
    with ExitStack() as stack:
        stack.enter_context(_quiet())
        fit = stack.enter_context(probed(site))
        try:
            client = distributed.Client(address, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as err:
            msg = (
                f"{address}: expected a dask scheduler, none answers ({_first_line(err)}); start "
                "one with 'dask scheduler', and check address, port, firewall and certificates"
            )
            raise ClusterError(msg) from err
        stack.enter_context(client)
        _require_workers(client, address)
        _require_package(client, address)
        _require_fit(client, address, fit)
        yield Cluster(client, address, fit=fit, limit=limit)


def _require_certificates(address: str) -> None:
    dask = require("dask", extra="pipelines", purpose=_PURPOSE)
    missing = [
        f"DASK_DISTRIBUTED__COMM__TLS__{variable}"
        for key, variable in _TLS.items()
        if not dask.config.get(f"distributed.comm.tls.{key}", None)
    ]
    if missing:
        msg = (
            f"{address}: expected certificates in the configuration of dask, got none; set "
            f"{', '.join(missing)} to the PEM files that the scheduler trusts"
        )
        raise ClusterError(msg)


def _require_workers(client: Any, address: str) -> None:
    patience = _patience()
    try:
        client.wait_for_workers(1, timeout=patience)
    except TimeoutError as err:
        msg = (
            f"{address}: expected workers, none came in {patience:g} s; start some with "
            f"'dask worker {address}'"
        )
        raise ClusterError(msg) from err


def _require_package(client: Any, address: str) -> None:
    # A function of the standard library: one of ours could not be sent to where we are not.
    found = client.run(importlib.util.find_spec, "pipelines.executors", on_error="return")
    for worker, spec in sorted(found.items()):
        if spec is None or isinstance(spec, BaseException):
            msg = (
                f"{address}: worker {worker}: expected the package velora-eventkit, it is not "
                "installed there; install the same version as where the command runs"
            )
            raise ClusterError(msg)


def _require_fit(client: Any, address: str, fit: Fit) -> None:
    for worker, why in sorted(client.run(misfit, fit, on_error="return").items()):
        if why is not None:
            msg = f"{address}: worker {worker}: {why}"
            raise ClusterError(msg)


def _patience() -> float:
    """Return how long to wait for workers: dask's own setting, which it leaves open."""
    dask = require("dask", extra="pipelines", purpose=_PURPOSE)
    text = dask.config.get("distributed.scheduler.no-workers-timeout", None)
    return NO_WORKER_S if text is None else float(dask.utils.parse_timedelta(text))


def _first_line(err: BaseException) -> str:
    return (str(err) or type(err).__name__).splitlines()[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep dask's complaints back: what matters of them becomes one sentence."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    before = [log.level for log in loggers]
    for log in loggers:
        log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="distributed")
            yield
    finally:
        for log, level in zip(loggers, before, strict=True):
            log.setLevel(level)


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
