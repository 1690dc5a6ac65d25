"""Count frames, 8 bins: tonic, evutils, eventcv and the scatter limit; one thread."""

from __future__ import annotations

import common
import numpy as np
from numba import njit
from streams import Stream, streams

import eventkit
from eventkit.slicing import windows

BINS = 8
# What, ratio wanted: by number of events and sensor.
TONIC = {
    "346x260, 1e+06": 60,
    "346x260, 1e+07": 50,
    "1280x720, 1e+06": 15,
    "1280x720, 1e+07": 24,
    "recording 1280x720": 14,
}
PEER = {
    "346x260, 1e+06": 1.8,
    "346x260, 1e+07": 1.3,
    "1280x720, 1e+06": 2.0,
    "1280x720, 1e+07": 1.6,
}


@njit(nogil=True)
def scatter(index, out):
    for i in range(index.size):
        out[index[i]] += 1


def _ranges(stream: Stream) -> np.ndarray:
    return windows(stream.events, bins=BINS).ranges(stream.events.t)


def scatter_limit(stream: Stream) -> common.Callable[[], None]:
    """Only ``out[index[i]] += 1`` at flat indices worked out beforehand: the floor."""
    width, height = stream.size
    ev, ranges = stream.events, _ranges(stream)
    bins = np.repeat(np.arange(BINS), ranges[:, 1] - ranges[:, 0])
    flat = (((2 * bins + ev.p) * height + ev.y) * width + ev.x).astype(np.uint32)
    out = np.zeros(2 * BINS * width * height, np.uint16)
    return lambda: scatter(flat, out)


def rows_of(stream: Stream) -> common.Rows:
    width, height = stream.size
    ev, ranges = stream.events, _ranges(stream)
    rows: common.Rows = {
        "eventkit u2": lambda: eventkit.count_frames(ev, sensor_size=stream.size, bins=BINS),
        "eventkit u1": lambda: eventkit.count_frames(
            ev, sensor_size=stream.size, bins=BINS, dtype="u1"
        ),
        "scatter limit": scatter_limit(stream),
    }
    if common.peer("tonic"):
        from tonic.transforms import ToFrame

        frame, structured = ToFrame((*stream.size, 2), n_time_bins=BINS), stream.tonic
        rows["tonic ToFrame"] = lambda: frame(structured)
    if common.peer("evutils"):
        from evutils.dense import histogram
        from evutils.types import EventArray

        array = EventArray(t=ev.t, x=ev.x, y=ev.y, p=ev.p.view(np.uint8))
        rows["evutils histogram (3 channels)"] = lambda: np.stack(
            [histogram(array[a:z], width, height, dtype=np.uint16) for a, z in ranges]
        )
    if eventcv := common.peer("eventcv"):
        matrix = np.stack([ev.x.astype(np.int64), ev.y, ev.t, ev.p], 1)
        parts = [
            eventcv.from_numpy(matrix[a:z], sensor_size=stream.size, time_unit="us")
            for a, z in ranges
        ]
        rows["eventcv count (1 channel, cut beforehand)"] = lambda: [
            part.count().numpy() for part in parts
        ]
    return rows


def main(report: common.Report, *, rounds: int = 9) -> None:
    for stream in streams():
        ratios = common.compare(
            f"counts, {stream.label}", rows_of(stream), against="eventkit u2", rounds=rounds
        )
        label = stream.label
        report.add("counts", "tonic ToFrame", label, ratios.get("tonic ToFrame"), TONIC[label])
        others = [ratios[name] for name in ratios if name.startswith(("evutils", "eventcv"))]
        if label in PEER:
            best = min(others) if others else None
            report.add("counts", "best other peer", label, best, PEER[label])
        share = 0.4 if label.startswith("recording") else 0.6
        report.add("counts", "share of the scatter limit", label, ratios["scatter limit"], share)


if __name__ == "__main__":
    REPORT = common.Report()
    main(REPORT)
    REPORT.print()
