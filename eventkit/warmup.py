"""Compile every kernel once, so that the first clip of a run does not pay for it.

Numba keeps compiled kernels in a folder beside the package or in the user's cache. Many processes
that compile at the same moment do the same work many times; here the first one takes a lock and the
others wait, then load what it made.
"""

from __future__ import annotations

import fcntl
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

import eventkit.readers
from eventkit.adaptive import Bisection
from eventkit.differences import frame_difference
from eventkit.events import Events
from eventkit.filters import parse as parse_filter
from eventkit.ledger import Ledger
from eventkit.recording import Chunk, Recording
from eventkit.representations import COUNT_DTYPES, make, names
from eventkit.writers import writers

SIZE = (5, 3)
# Those with a kernel; each with neighbours or polarity as by default.
FILTERS = (
    "background",
    "refractory",
    "hot-pixels",
    "crop:box=0/0/3/2",
    "flip",
    "transpose",
    "downsample",
    "polarity:mode=on",
    "rate:count=1",
)
# Those that are decoded by kernels and need no optional library.
FORMATS = {"evt2": "raw", "evt21": "raw", "evt3": "raw", "dat": "dat", "atis-bin": "bin",
           "es": "es", "csv": "csv", "npz": "npz"}  # fmt: skip
LOCK_NAME = ".eventkit-warmup.lock"


def warm_up(*, say: Callable[[str], None] = lambda line: None) -> Path | None:
    """Compile or load every kernel for the types that the library uses.

    Parameters
    ----------
    say : function of str
        Told what was made ready, and how long it took.

    Returns
    -------
    Path or None
        Where the compiled kernels lie; None where no folder can be written, and each process has to
        compile for itself.
    """
    folder = cache_folder()
    with _locked(folder):
        for label, work in _work():
            began = time.perf_counter()
            work()
            say(f"{label}: {time.perf_counter() - began:.2f} s")
    return folder


def cache_folder() -> Path | None:
    """Return the folder of the compiled kernels, or None where there is none."""
    from eventkit.kernels.counts import count

    stats = getattr(count, "stats", None)
    path = getattr(stats, "cache_path", None)
    return None if path is None else Path(path)


def _work() -> Iterator[tuple[str, Callable[[], object]]]:
    # Enough for a format without a header to be recognised by its first records.
    ev = Events(x=[0, 1, 4, 4] * 8, y=[0, 1, 2, 2] * 8, t=range(32), p=[0, 1, 1, 0] * 8)
    for name in names():
        yield name, partial(make(name), ev, sensor_size=SIZE)
    for dtype in COUNT_DTYPES:
        counts = make("counts:eventkit", dtype=dtype)
        yield f"counts {dtype}", partial(counts, ev, sensor_size=SIZE, bins=2)
    for spec in FILTERS:
        yield f"filter {spec}", partial(parse_filter(spec), ev, sensor_size=SIZE)
    for kind in ("u1", "u2", "u4"):
        yield f"difference {kind}", partial(frame_difference, np.zeros((2, 2, 3), kind))
    for name in FORMATS:
        yield f"format {name}", partial(_round_trip, name, ev)
    yield "adaptive windows", partial(Bisection().cut, ev, sensor_size=SIZE)


def _round_trip(name: str, ev: Events) -> None:
    """Write and read a file, also with events outside, so that all kernels of its format run."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{FORMATS[name]}"
        made = Recording(path, "made", SIZE, source=lambda _: iter([Chunk(ev)]))
        writers()[name].write(made, path, ledger=Ledger())
        _ = eventkit.readers.open(path, sensor_size=SIZE).events
        _ = eventkit.readers.open(path, sensor_size=(2, 2), on_error="skip").events


@contextmanager
def _locked(folder: Path | None) -> Iterator[None]:
    """Hold the lock of the cache folder; without a folder there is nothing to share."""
    if folder is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    try:
        file = (folder / LOCK_NAME).open("w")
    except OSError:  # the cache is there but cannot be written: it is only read
        yield
        return
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
