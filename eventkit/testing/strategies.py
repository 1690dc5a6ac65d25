"""Hypothesis strategies for event streams, sound and unsound.

Problem: drawn uniformly, times hardly ever meet and places hardly ever repeat, so the cases that
break code (equal times, full cells, a first event that is also the last) are never seen. Choice:
steps between events are zero half of the time, starts are those that real files have (zero, the
microseconds since 1970, before zero, past 2^53, where float64 skips integers), sensors are small
and mostly not square, so that x and y swapped do not go unnoticed.

Examples
--------
>>> from hypothesis import given
>>> from eventkit.testing.strategies import events
>>> @given(events(sensor_size=(7, 5)))
... def test_times_do_not_decrease(ev):
...     assert (ev.t[1:] >= ev.t[:-1]).all()
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import MissingDependencyError
from eventkit.events import Events
from eventkit.readers.policy import RawChunk

try:
    from hypothesis import strategies as st
    from hypothesis.strategies import DrawFn, SearchStrategy
except ModuleNotFoundError as err:
    msg = "the strategies of eventkit.testing need 'hypothesis': pip install hypothesis"
    raise MissingDependencyError(msg) from err

STARTS_US = (0, 1_589_163_147_368_868, -1_000_003, (1 << 53) + 1)
"""Zero, an absolute time of 2020, before zero, and past what float64 holds exactly."""


def sensor_sizes(*, max_side: int = 9) -> SearchStrategy[tuple[int, int]]:
    """Draw ``(W, H)`` of small sensors, mostly not square.

    Parameters
    ----------
    max_side : int, pixels
    """
    return st.tuples(st.integers(1, max_side), st.integers(1, max_side))


@st.composite
def times(
    draw: DrawFn, *, size: int, start_us: int | None = None, max_step_us: int = 1000
) -> NDArray[np.int64]:
    """Draw (size,) int64 times that do not decrease; half of the steps are zero.

    Parameters
    ----------
    size : int
    start_us : int, microseconds, optional
        Of the first event; default one of `STARTS_US`.
    max_step_us : int, microseconds
    """
    start = draw(st.sampled_from(STARTS_US)) if start_us is None else start_us
    step = st.one_of(st.just(0), st.integers(0, max_step_us))
    steps = draw(st.lists(step, min_size=max(size - 1, 0), max_size=max(size - 1, 0)))
    return np.cumsum([start, *steps], dtype=np.int64)[:size]


@st.composite
def events(
    draw: DrawFn,
    *,
    sensor_size: tuple[int, int] = (7, 5),
    min_size: int = 0,
    max_size: int = 40,
    start_us: int | None = None,
    max_step_us: int = 1000,
) -> Events:
    """Draw a sound stream inside the sensor.

    Parameters
    ----------
    sensor_size : (W, H)
    min_size, max_size : int
        Number of events.
    start_us : int, microseconds, optional
        Of the first event; default one of `STARTS_US`.
    max_step_us : int, microseconds
    """
    size = draw(st.integers(min_size, max_size))
    width, height = sensor_size
    return Events(
        x=np.array(draw(_values(width - 1, size)), np.uint16),
        y=np.array(draw(_values(height - 1, size)), np.uint16),
        t=draw(times(size=size, start_us=start_us, max_step_us=max_step_us)),
        p=np.array(draw(_values(1, size)), np.int8),
    )


@st.composite
def parts(draw: DrawFn, stream: Events, *, max_parts: int = 5) -> list[Events]:
    """Cut a stream into up to ``max_parts`` consecutive streams, some of them empty.

    Parameters
    ----------
    stream : Events
    max_parts : int
    """
    at = st.lists(st.integers(0, len(stream)), max_size=max_parts - 1)
    edges = [0, *sorted(draw(at)), len(stream)]
    return [stream[a:b] for a, b in pairwise(edges)]


@st.composite
def window_rules(draw: DrawFn, stream: Events, *, bins: bool = True) -> dict[str, Any]:
    """Draw a window rule for a stream: none, bins, lengths, counts or edges, some with gaps.

    Parameters
    ----------
    stream : Events
    bins : bool
        Whether ``bins`` is a rule; it is not for representations with bins of their own.
    """
    first, last = (int(stream.t[0]), int(stream.t[-1])) if len(stream) else (0, 0)
    # Windows shorter than this would be too many to run through.
    length = st.integers(max(1, (last - first) // 20), max(2, 2 * (last - first)))
    number = st.integers(1, max(2, len(stream)))
    end = st.sampled_from(["include", "exclude"])
    kinds: list[SearchStrategy[dict[str, Any]]] = [
        st.fixed_dictionaries({}, optional={"last": end}),
        st.fixed_dictionaries({"window_us": length}, optional={"stride_us": length, "last": end}),
        st.fixed_dictionaries({"count": number}, optional={"stride": number, "last": end}),
        st.fixed_dictionaries(
            {
                "edges_us": st.lists(
                    st.integers(first - 50, last + 50), min_size=2, max_size=6
                ).map(sorted)
            }
        ),
    ]
    if bins:
        kinds.append(st.fixed_dictionaries({"bins": st.integers(1, 9)}, optional={"last": end}))
    return draw(st.one_of(kinds))


@st.composite
def raw_chunks(
    draw: DrawFn,
    *,
    sensor_size: tuple[int, int] = (7, 5),
    max_chunks: int = 4,
    max_size: int = 12,
    max_back_us: int = 50,
) -> list[RawChunk]:
    """Draw what a reader may decode from a damaged file: places outside, times that step back.

    Parameters
    ----------
    sensor_size : (W, H)
        A place lies up to two pixels outside.
    max_chunks, max_size : int
        Number of chunks, and of events in each; either may be zero.
    max_back_us : int, microseconds
        The longest step back, and forth.
    """
    width, height = sensor_size
    chunks: list[RawChunk] = []
    now, offset = draw(st.sampled_from(STARTS_US)), 0
    for _ in range(draw(st.integers(0, max_chunks))):
        size = draw(st.integers(0, max_size))
        step = st.one_of(st.just(0), st.integers(-max_back_us, max_back_us))
        steps = draw(st.lists(step, min_size=size, max_size=size))
        t = now + np.cumsum(steps, dtype=np.int64)
        chunks.append(
            RawChunk(
                x=np.array(draw(_values(width + 1, size)), np.uint16),
                y=np.array(draw(_values(height + 1, size)), np.uint16),
                t=t,
                p=np.array(draw(_values(1, size)), np.int8),
                words=size,
                offset=offset,
                stride=5,
            )
        )
        now, offset = int(t[-1]) if size else now, offset + 5 * size
    return chunks


def frame_stacks(
    *, dtype: Any = np.uint8, max_frames: int = 4, max_side: int = 5
) -> SearchStrategy[NDArray[Any]]:
    """Draw (T, C, H, W) pictures or counts of an unsigned type, over its whole range.

    Parameters
    ----------
    dtype : unsigned integer type
    max_frames, max_side : int
        Limits of T, and of H and W; C is 1 to 3.
    """
    from hypothesis.extra.numpy import arrays

    shape = st.tuples(
        st.integers(1, max_frames),
        st.integers(1, 3),
        st.integers(1, max_side),
        st.integers(1, max_side),
    )
    return arrays(np.dtype(dtype), shape)


def _values(top: int, size: int) -> SearchStrategy[list[int]]:
    return st.lists(st.integers(0, top), min_size=size, max_size=size)
