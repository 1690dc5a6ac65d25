"""Windows of recordings as a sequence: what ``torch.utils.data.Dataset`` asks for, without torch.

A map-style dataset is anything with ``__len__`` and ``__getitem__``, so a ``DataLoader`` takes this
as it is. Recordings are opened when their first window is asked for, and again in each worker;
what is sent to workers are names and the ranges that one pass found.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import SettingsError
from eventkit.events import Events
from eventkit.readers import open as open_recording
from eventkit.recording import Recording
from eventkit.representations.base import Representation
from eventkit.representations.registry import parse
from eventkit.slicing import equal_edges

Transform = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Window:
    """Where one item comes from.

    Parameters
    ----------
    recording : int
        Number of the recording.
    start_us, stop_us : int, microseconds
        ``[start, stop)``.
    """

    recording: int
    start_us: int
    stop_us: int


class EventSequence:
    """Windows of equal length of one or more recordings, in order.

    Parameters
    ----------
    recordings : str, Path, Recording, Events, or an iterable of these
        Names are opened with `eventkit.open` and can be sent to worker processes that are not
        forked; an open `Recording` cannot.
    window_us : int, microseconds
        Window ``k`` of a recording is ``[first + k * stride, first + k * stride + window)``, from
        its first event on. The last one holds the last event and may reach beyond it.
    stride_us : int, microseconds, optional
        Default: the window, so that each event is in one.
    representation : str or Representation, optional
        As ``"voxel:zhu,bins=5"``; items are then its (C, H, W) frames of the whole window, from
        edge to edge whatever the first and last event in it are.
    bins : int, optional
        Cut each window into bins of equal time: items are (bins, C, H, W).
    transform : callable, optional
        Applied to each item, `Events` or frames; of a kind that pickles, for workers.
    keep : bool
        Keep the events of recordings in memory once they were read. Without, each window is read
        from its file: quick where the format can be entered in the middle.
    **options
        For `eventkit.open`: ``sensor_size``, ``on_error`` ...

    Raises
    ------
    SettingsError
        If a length is below 1, or ``bins`` come without a representation.

    Examples
    --------
    >>> events = Events(x=[0, 1, 2], y=[0, 0, 0], t=[10, 15, 30], p=[0, 1, 1])
    >>> windows = EventSequence(events, window_us=10)
    >>> len(windows), [len(window) for window in windows], windows[-1].t.tolist()
    (3, [2, 0, 1], [30])
    """

    def __init__(
        self,
        recordings: str | Path | Recording | Events | Iterable[str | Path | Recording | Events],
        *,
        window_us: int,
        stride_us: int | None = None,
        representation: str | Representation | None = None,
        bins: int | None = None,
        transform: Transform | None = None,
        keep: bool = False,
        **options: Any,
    ) -> None:
        stride_us = window_us if stride_us is None else stride_us
        if window_us < 1 or stride_us < 1:
            msg = f"expected a window and a stride of at least 1 us, got {window_us}, {stride_us}"
            raise SettingsError(msg)
        if bins is not None and (representation is None or bins < 1):
            msg = f"expected bins, at least 1, of a representation, got {bins}"
            raise SettingsError(msg)
        if isinstance(recordings, str | Path | Recording | Events):
            recordings = (recordings,)
        self._recordings: tuple[str | Path | Recording | Events, ...] = tuple(recordings)
        self._window_us = int(window_us)
        self._stride_us = int(stride_us)
        self._representation = (
            parse(representation) if isinstance(representation, str) else representation
        )
        self._bins = bins
        self._transform = transform
        self._keep = keep
        self._options = options
        self._ranges: list[tuple[int, int] | None] | None = None
        self._picked: range | None = None
        self._opened: dict[int, Recording | Events] = {}

    def __len__(self) -> int:
        """Number of windows; the first call reads every recording once to find its range."""
        return len(self._indices())

    @overload
    def __getitem__(self, item: slice) -> EventSequence: ...
    @overload
    def __getitem__(self, item: int) -> Any: ...
    def __getitem__(self, item: int | slice) -> Any:
        """One window, from the end for negative numbers; or a sequence of those of a slice."""
        if isinstance(item, slice):
            return self._part(self._indices()[item])
        window = self.window(item)
        source = self._open(window.recording)
        found: Any = _between(source, window, keep=self._keep)
        if self._representation is not None:
            found = self._frames(source, found, window)
        return found if self._transform is None else self._transform(found)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def window(self, item: int) -> Window:
        """Return where window ``item`` comes from.

        Raises
        ------
        IndexError
            Past either end, as of a list.
        """
        try:
            index = self._indices()[item]
        except IndexError:
            msg = f"expected a window in 0..{len(self) - 1}, got {item}"
            raise IndexError(msg) from None
        ends = self._ends()
        recording = bisect_right(ends, index)
        k = index - (ends[recording - 1] if recording else 0)
        found = self._found()[recording]
        assert found is not None
        start = found[0] + k * self._stride_us
        return Window(recording, start, start + self._window_us)

    def __getstate__(self) -> dict[str, Any]:
        held = [item for item in self._recordings if isinstance(item, Recording)]
        if held:
            msg = f"expected names for worker processes, got the open recording {held[0].path}"
            raise SettingsError(msg)
        # What is open here stays here; workers open their own.
        return {**self.__dict__, "_ranges": self._found(), "_opened": {}}

    def _frames(self, source: Recording | Events, events: Events, window: Window) -> NDArray[Any]:
        assert self._representation is not None
        size = self._options.get("sensor_size") or getattr(source, "sensor_size", None)
        if size is None:
            msg = "expected to know how large the sensor is; give sensor_size=(W, H)"
            raise SettingsError(msg)
        edges = equal_edges(window.start_us, window.stop_us, self._bins or 1)
        frames = self._representation(events, sensor_size=size, edges_us=edges)
        return frames if self._bins is not None else frames[0]

    def _part(self, picked: range) -> EventSequence:
        part = object.__new__(EventSequence)
        part.__dict__.update(self.__dict__)
        part._picked = picked
        return part

    def _indices(self) -> range:
        if self._picked is not None:
            return self._picked
        ends = self._ends()
        return range(ends[-1] if ends else 0)

    def _ends(self) -> list[int]:
        """Number of windows up to and with each recording."""
        counts = [
            0 if found is None else 1 + (found[1] - found[0]) // self._stride_us
            for found in self._found()
        ]
        return [int(end) for end in np.cumsum(counts, dtype=np.int64)]

    def _found(self) -> list[tuple[int, int] | None]:
        """First and last time of each recording; None without events."""
        if self._ranges is None:
            self._ranges = [self._range(i) for i in range(len(self._recordings))]
        return self._ranges

    def _range(self, number: int) -> tuple[int, int] | None:
        source = self._open(number)
        if self._keep and isinstance(source, Recording):
            source = source.events
        first: int | None = None
        last = 0
        for events in (source,) if isinstance(source, Events) else source.chunks():
            if len(events):
                first = int(events.t[0]) if first is None else first
                last = int(events.t[-1])
        return None if first is None else (first, last)

    def _open(self, number: int) -> Recording | Events:
        found = self._opened.get(number)
        if found is None:
            item = self._recordings[number]
            found = open_recording(item, **self._options) if isinstance(item, str | Path) else item
            self._opened[number] = found
        return found


def _between(source: Recording | Events, window: Window, *, keep: bool) -> Events:
    if isinstance(source, Recording):
        if not keep:
            return source.between(window.start_us, window.stop_us)
        source = source.events
    first, last = np.searchsorted(source.t, [window.start_us, window.stop_us])
    return source[int(first) : int(last)]
