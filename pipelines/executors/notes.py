"""Which tasks run in this process, on disk: what takes the process down is known to the next run.

A crash in a thread ends the whole run. Without a note the same command would meet the same file
again, and die again, for ever.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


class Notes:
    """An empty file for every task that runs, in a folder of its own.

    Not synced: a process that dies leaves what it has written, and after a loss of power no note
    is needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._left = frozenset(path.name for path in folder.iterdir())
        if self._left:
            logger.warning(
                "an earlier run died while it worked on %d units; each of them is tried in a "
                "process of its own",
                len(self._left),
            )

    def was_left(self, task: Callable[..., Any], item: object) -> bool:
        """Tell whether an earlier process died while it ran this."""
        return bool(self._left) and _name(task, item) in self._left

    @contextmanager
    def of(self, task: Callable[..., Any], item: object) -> Iterator[None]:
        """Keep a note for the length of the block."""
        note = self._folder / _name(task, item)
        note.touch()
        try:
            yield
        finally:
            note.unlink(missing_ok=True)

    def settle(self, task: Callable[..., Any], item: object) -> None:
        """Forget a note of an earlier process: its task was tried."""
        (self._folder / _name(task, item)).unlink(missing_ok=True)

    def forget(self) -> None:
        """Forget what this process runs: it is stopped, which is no death of a task."""
        for path in list(self._folder.iterdir()):
            if path.name not in self._left:
                path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Forget all: the run is at its end, so what an earlier one died of is done."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def close(self) -> None:
        """Remove the folder; notes of tasks that did not have their turn are kept for it."""
        if not any(self._folder.iterdir()):
            self._folder.rmdir()


def _name(task: Callable[..., Any], item: object) -> str:
    words = f"{task.__module__}.{task.__qualname__} {item!r}"
    return hashlib.sha256(words.encode()).hexdigest()[:32]
