"""A reader of another package whose decoder takes its process down, or dawdles.

What it does stands in the name of the file: ``segfault``, ``abort``, ``exit`` or ``kill``, in the
scan or, with ``later``, only when the recording is converted; ``slow`` sleeps.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import zlib
from pathlib import Path

from toy_events import ToyReader

from eventkit.readers.base import ReadOptions
from eventkit.recording import Recording
from eventkit.sources import Source

SLOW_S = 0.3


class PoisonReader(ToyReader):
    """Toy recordings, some of them deadly."""

    name = "poison"
    suffixes = (".poison",)

    def recognise(self, source: Source) -> str | None:
        return "suffix .poison" if source.suffix == ".poison" else None

    def open(self, source: Source, options: ReadOptions) -> Recording:
        stem = Path(source.name).stem
        if "later" not in stem or _converts():
            _act(stem)
        return super().open(source, options)


def _converts() -> bool:
    frame = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == "pipelines.pack_task":
            return True
        frame = frame.f_back
    return False


def _act(stem: str) -> None:
    if "slow" in stem:
        seed = os.environ.get("POISON_SEED", "")
        time.sleep(SLOW_S * (zlib.crc32(f"{seed}{stem}".encode()) % 8) / 8)
    if "segfault" in stem:
        ctypes.string_at(0)
    if "abort" in stem:
        os.abort()
    if "exit" in stem:
        os._exit(7)
    if "kill" in stem:
        os.kill(os.getpid(), signal.SIGKILL)
