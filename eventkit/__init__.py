"""eventkit: readers, frames and representations for event cameras.

The public surface, resolved on first use so that ``import eventkit`` costs what NumPy costs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "Clip": "eventkit.clips",
    "ClipSettings": "eventkit.survey",
    "Columns": "eventkit.columns",
    "EVENT_DTYPE": "eventkit.events",
    "EventKitError": "eventkit.errors",
    "Events": "eventkit.events",
    "FormatError": "eventkit.errors",
    "Frames": "eventkit.frames",
    "Ledger": "eventkit.ledger",
    "Recording": "eventkit.recording",
    "Sample": "eventkit.samples",
    "ShardSet": "eventkit.shards",
    "Windows": "eventkit.windows",
    "clip_recording": "eventkit.clips",
    "count_frames": "eventkit.representations",
    "export": "eventkit.writers",
    "frame_difference": "eventkit.differences",
    "open": "eventkit.readers",
    "open_store": "eventkit.store",
    "simulate_events": "eventkit.simulate",
    "time_surface": "eventkit.representations",
    "voxel_grid": "eventkit.representations",
}

if TYPE_CHECKING:
    from eventkit.clips import Clip as Clip
    from eventkit.clips import clip_recording as clip_recording
    from eventkit.columns import Columns as Columns
    from eventkit.differences import frame_difference as frame_difference
    from eventkit.errors import EventKitError as EventKitError
    from eventkit.errors import FormatError as FormatError
    from eventkit.events import EVENT_DTYPE as EVENT_DTYPE
    from eventkit.events import Events as Events
    from eventkit.frames import Frames as Frames
    from eventkit.ledger import Ledger as Ledger
    from eventkit.readers import open as open
    from eventkit.recording import Recording as Recording
    from eventkit.representations import count_frames as count_frames
    from eventkit.representations import time_surface as time_surface
    from eventkit.representations import voxel_grid as voxel_grid
    from eventkit.samples import Sample as Sample
    from eventkit.shards import ShardSet as ShardSet
    from eventkit.simulate import simulate_events as simulate_events
    from eventkit.store import open_store as open_store
    from eventkit.survey import ClipSettings as ClipSettings
    from eventkit.windows import Windows as Windows
    from eventkit.writers import export as export

__all__ = ["__version__", *sorted(_PUBLIC)]


_MODULES = ("augment", "filters", "interop", "readers", "representations", "writers")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"eventkit.{name}")
    if name not in _PUBLIC:
        msg = f"module 'eventkit' has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
