"""The window of submitted work, the same over every executor."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from eventkit.errors import EventKitError
from pipelines.executors.alone import Death
from pipelines.executors.notes import Notes

Item = TypeVar("Item")
Result = TypeVar("Result")
CHECK_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """How to run; nothing here changes the bytes of the output."""

    executor: str = "auto"
    workers: int | None = None
    strict: bool = False
    max_bad: float = 100.0


class WorkerDiedError(EventKitError):
    """A task took its process down, also when it ran alone."""

    exit_code = 1


class Backend(Protocol):
    """Where tasks run."""

    @property
    def window(self) -> int:
        """How many tasks may be in flight."""
        ...

    deaths: tuple[type[Exception], ...]
    """What a future raises if its process died, which may be the fault of another task."""

    def submit(self, task: Callable[[Item], Result], item: Item) -> Future[Result]:
        """Start a task; a future that is cancelled by nobody was lost and is submitted again."""
        ...

    def alone(self, task: Callable[[Item], Result], item: Item) -> Result | Death:
        """Run a task in a process of its own and wait."""
        ...

    def check(self) -> None:
        """Return when there is somebody to finish what is in flight, or raise."""
        ...


@dataclass(frozen=True, slots=True)
class Pool:
    """An executor that is open."""

    name: str
    workers: int
    backend: Backend
    notes: Notes | None = None

    def run(
        self,
        task: Callable[[Item], Result],
        items: Iterable[Item],
        *,
        died: Callable[[Item, Death], Result] | None = None,
    ) -> Iterator[tuple[Item, Result]]:
        """Run ``task`` on every item; yield (item, result) in order of completion.

        An exception of a task is raised here; what is in flight is cancelled or waited for. An
        item whose process died is run again at the end, alone: a scheduler blames neighbours too.

        Parameters
        ----------
        task : function of one argument
        items : iterable
        died : function of item and `Death`, optional
            Gives the result of an item that takes its process down when it is alone.

        Raises
        ------
        WorkerDiedError
            If that happens and ``died`` is not given.
        """
        suspects: list[Item] = []
        yield from self._together(task, items, suspects)
        for item in suspects:
            result = self.alone(task, item)
            if isinstance(result, Death):
                result = _given(died, item, result)
            if self.notes is not None:
                self.notes.settle(task, item)
            yield item, result

    def alone(self, task: Callable[[Item], Result], item: Item) -> Result | Death:
        """Run one task in a process of its own."""
        return self.backend.alone(task, item)

    def _together(
        self, task: Callable[[Item], Result], items: Iterable[Item], suspects: list[Item]
    ) -> Iterator[tuple[Item, Result]]:
        """Run items side by side; those that may be deadly are put into ``suspects``."""
        flight: _Flight[Item, Result] = _Flight(iter(items))
        try:
            while True:
                for item in flight.next_items(self.backend.window):
                    if self.notes is not None and self.notes.was_left(task, item):
                        suspects.append(item)
                    else:
                        flight.running[self.backend.submit(task, item)] = item
                if not flight.running:
                    return
                for future in self._done(flight.running):
                    item = flight.running.pop(future)
                    try:
                        result = future.result()
                    except CancelledError:
                        flight.lost.append(item)
                        self.backend.check()
                    except self.backend.deaths:
                        suspects.append(item)
                    else:
                        yield item, result
        finally:
            for future in flight.running:
                future.cancel()

    def _done(self, running: Iterable[Future[Any]]) -> set[Future[Any]]:
        while True:
            done, _ = wait(running, timeout=CHECK_S, return_when=FIRST_COMPLETED)
            if done:
                return done
            self.backend.check()


@dataclass(slots=True)
class _Flight(Generic[Item, Result]):
    source: Iterator[Item]
    running: dict[Future[Result], Item] = field(default_factory=dict)
    lost: deque[Item] = field(default_factory=deque)

    def next_items(self, window: int) -> Iterator[Item]:
        """Yield items as long as there is room."""
        while len(self.running) < window:
            if self.lost:
                yield self.lost.popleft()
                continue
            try:
                yield next(self.source)
            except StopIteration:
                return


def _given(died: Callable[[Item, Death], Result] | None, item: Item, death: Death) -> Result:
    if died is not None:
        return died(item, death)
    msg = (
        f"expected a result of {getattr(item, 'name', item)}, got {death} twice, the second time "
        "in a process of its own: out of memory, or a crash in a library"
    )
    raise WorkerDiedError(msg)
