"""``--executor auto``: by the format of the recordings, and by how much there is to do."""

from __future__ import annotations

from pathlib import Path

from eventkit.readers import suffixes
from pipelines.datasets.discover import Discovery
from pipelines.executors import RunSettings, count_workers

# h5py holds one lock for all of HDF5; every other decoder lets go of Python's.
_ONE_AT_A_TIME = "hdf5"
WORTH_BYTES = 256 << 20
"""Of HDF5; with less the start of processes costs more than they save."""


def choose(found: Discovery, run: RunSettings) -> tuple[str, str]:
    """Return the executor for a set of recordings, and why, in words; as asked if one was named."""
    if run.executor != "auto":
        return run.executor, ""
    workers = count_workers(run.workers, tasks=len(found.recordings))
    if workers == 1:
        return "inline", "one worker"
    names = suffixes("events")
    size = 0
    for spec in found.recordings:
        if spec.events and names.get(Path(spec.events).suffix.lower()) == _ONE_AT_A_TIME:
            path = found.root / spec.events
            size += path.stat().st_size if path.exists() else 0  # a link to nothing
            if size >= WORTH_BYTES:
                return "processes", f"{workers} workers, HDF5 is read by one thread at a time"
    return "threads", f"{workers} workers"
