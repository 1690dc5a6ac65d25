"""The other representations beside the fastest peer that has each; one thread."""

from __future__ import annotations

import sys
import types
import warnings

import common
import numpy as np
from streams import Stream, streams
from surfaces import event_store

from eventkit.representations import make

TAU_US = 10_000
HATS_EVENTS = 20_000
"""tonic's HATS is a Python loop over events: a part of the stream has to do."""


def rvt_histogram(stream: Stream) -> common.Rows:
    ev, (width, height) = stream.events, stream.size
    ours = make("stack:rvt", bins=10)
    rows: common.Rows = {"eventkit": lambda: ours(ev, sensor_size=stream.size)}
    # evlib's models want a torchvision that loads; the histogram does not need them.
    sys.modules.setdefault("evlib.models", types.ModuleType("evlib.models"))
    if evlib := common.peer("evlib"):
        dense = evlib.representations_rs.stacked_histogram_dense
        x, y, p = (column.astype(np.int64) for column in (ev.x, ev.y, ev.p))
        end, span = ev.t[-1:].copy(), int(ev.t[-1] - ev.t[0])
        places = (np.arange(height), np.arange(width))
        rows["evlib.rvt"] = lambda: dense(ev.t, x, y, p, end, span, 10, 10, *places, height, width)
    return rows


def tencode(stream: Stream) -> common.Rows:
    ev, ours = stream.events, make("image:tencode")
    rows: common.Rows = {"eventkit": lambda: ours(ev, sensor_size=stream.size)}
    if whole := _eventcv(stream):
        span = int(ev.t[-1] - ev.t[0])
        rows["eventcv"] = lambda: whole.tencode(window_us=span).numpy()
    return rows


def event_image(stream: Stream) -> common.Rows:
    ev, ours = stream.events, make("image:event-ahu")
    rows: common.Rows = {"eventkit": lambda: ours(ev, sensor_size=stream.size)}
    if whole := _eventcv(stream):
        rows["eventcv redblue"] = lambda: whole.redblue().numpy()
    return rows


def binarep(stream: Stream) -> common.Rows:
    ev, ours = stream.events, make("binary:binarep", edges="tonic")
    rows: common.Rows = {"eventkit": lambda: ours(ev, sensor_size=stream.size)}
    if common.peer("tonic"):
        from tonic.transforms import ToBinaRep, ToFrame

        frame = ToFrame((*stream.size, 2), n_time_bins=8)
        bits, structured = ToBinaRep(n_frames=1, n_bits=8), stream.tonic
        rows["tonic"] = lambda: bits(frame(structured))
    return rows


def tore(stream: Stream) -> common.Rows:
    ev, (width, height) = stream.events, stream.size
    ours = make("surface:tore", k=4, convention="evutils")
    rows: common.Rows = {"eventkit": lambda: ours(ev, sensor_size=stream.size)}
    if common.peer("evutils"):
        from evutils.dense import tore as volume
        from evutils.types import EventArray

        array = EventArray(t=ev.t, x=ev.x, y=ev.y, p=ev.p.view(np.uint8))
        rows["evutils"] = lambda: volume(
            array, width, height, n_events=4, tau=TAU_US, dtype=np.float32
        )
    return rows


def hats(stream: Stream) -> common.Rows:
    ev, structured = stream.events[:HATS_EVENTS], stream.tonic[:HATS_EVENTS]
    ours = make("surface:hats")
    rows: common.Rows = {"eventkit": lambda: ours(ev, sensor_size=stream.size)}
    if common.peer("tonic"):
        from tonic.transforms import ToAveragedTimesurface

        averaged = ToAveragedTimesurface((*stream.size, 2))
        rows["tonic"] = lambda: averaged(structured)
    return rows


def speed_invariant(stream: Stream) -> common.Rows:
    ev, ours = stream.events, make("surface:speed-invariant", polarity="merged", ties="keep")
    rows: common.Rows = {"eventkit": lambda: ours(ev, sensor_size=stream.size)}
    if dv := common.peer("dv_processing"):
        store = event_store(dv, ev)

        def surface() -> object:
            filled = dv.SpeedInvariantTimeSurface(stream.size)
            filled.accept(store)
            return filled.generateFrame()

        rows["dv-processing"] = surface
    return rows


def _eventcv(stream: Stream) -> object:
    eventcv = common.peer("eventcv")
    if eventcv is None:
        return None
    ev = stream.events
    matrix = np.stack([ev.x.astype(np.int64), ev.y, ev.t, ev.p], 1)
    return eventcv.from_numpy(matrix, sensor_size=stream.size, time_unit="us")


def main(report: common.Report, *, rounds: int = 9) -> None:
    warnings.simplefilter("ignore")
    subjects = (rvt_histogram, tencode, event_image, binarep, tore, hats, speed_invariant)
    for stream in streams(large=False):
        if "recording" in stream.label:
            continue
        for subject in subjects:
            rows = subject(stream)
            name = subject.__name__.replace("_", " ")
            ratios = common.compare(
                f"{name}, {stream.label}", rows, against="eventkit", rounds=rounds
            )
            for beside, ratio in ratios.items():
                if beside != "eventkit":
                    report.add(name, beside, stream.label, ratio, 2)


if __name__ == "__main__":
    REPORT = common.Report()
    main(REPORT)
    REPORT.print()
