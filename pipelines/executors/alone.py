"""One task in a process of its own, which may die without taking anything along.

A plain subprocess rather than `multiprocessing`: workers of dask are daemons and may have no
children of that kind, and a fork of a process with threads may hang.
"""

from __future__ import annotations

import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_CHILD = "from pipelines.executors.alone import serve; serve()"


@dataclass(frozen=True, slots=True)
class Death:
    """How the process of a task ended before there was a result.

    Parameters
    ----------
    code : int
        The exit code; minus the number of the signal where one ended it.
    """

    code: int

    @property
    def reason(self) -> str:
        """Code for the quarantine: SIGKILL comes from the kernel when memory is out."""
        return "killed" if self.code == -signal.SIGKILL else "decoder_crash"

    def __str__(self) -> str:
        """Return the end in words, the same on every machine."""
        if self.code >= 0:
            return f"exit code {self.code}"
        try:
            return f"signal {-self.code} ({signal.Signals(-self.code).name})"
        except ValueError:
            return f"signal {-self.code}"


def run_alone(task: Callable[[Item], Result], item: Item) -> Result | Death:
    """Run a task in a new process and wait for it.

    An exception of the task is raised here. The process ends when this one does, however that
    happens: it would otherwise go on to write where the next run works.
    """
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as answers:
        try:
            child = subprocess.Popen(
                [sys.executable, "-c", _CHILD, str(writing)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,  # what a library prints is no output of the command
                pass_fds=[writing],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        finally:
            os.close(writing)
        assert child.stdin is not None
        try:
            with suppress(BrokenPipeError):  # it died before it had read all; its code tells
                child.stdin.write(pickle.dumps((task, item)))
                child.stdin.flush()
            answer = answers.read()
            code = child.wait()
        finally:
            child.kill()
            child.wait()
            with suppress(BrokenPipeError):
                child.stdin.close()
    try:
        raised, value = pickle.loads(answer)
    except (EOFError, pickle.UnpicklingError):  # nothing, or cut off
        return Death(code)
    if raised:
        raise value
    result: Result = value
    return result


def serve() -> None:
    """Be the other process: a task from standard input, its result into the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the group; the parent decides
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):  # where the kernel must choose, it is this one that is too large
        Path("/proc/self/oom_score_adj").write_text("1000")
    task, item = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    answer: tuple[bool, Any]
    try:
        answer = False, task(item)
    except Exception as err:
        err.add_note(traceback.format_exc())
        answer = True, err
    try:
        data = pickle.dumps(answer)
    except Exception:  # whatever a foreign exception carries
        data = pickle.dumps((True, RuntimeError(repr(answer[1]))))
    with os.fdopen(int(sys.argv[1]), "wb") as answers:
        answers.write(data)


def _end_with_parent() -> None:
    # Not through Python's buffer: its lock, held here, would abort the end of the interpreter.
    while os.read(0, 1):
        pass
    os._exit(1)
