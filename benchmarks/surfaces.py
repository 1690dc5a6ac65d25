"""Time surfaces, tau 50 ms: one beside dv-processing, eight beside tonic; one thread."""

from __future__ import annotations

import common
import numpy as np
from streams import Stream, streams

import eventkit

TAU_US, STEPS = 50_000, 8


def one(stream: Stream) -> common.Rows:
    ev, (width, height) = stream.events, stream.size
    rows: common.Rows = {
        "eventkit": lambda: eventkit.time_surface(ev, sensor_size=stream.size, tau_us=TAU_US)
    }
    if dv := common.peer("dv_processing"):
        store = event_store(dv, ev)

        def surface() -> object:  # 8 bit, one channel, linear: less work than the others do
            filled = dv.TimeSurface((width, height))
            filled.accept(store)
            return filled.generateFrame()

        rows["dv-processing (1 channel, 8 bit)"] = surface
    if common.peer("evutils"):
        from evutils.dense import timesurface
        from evutils.types import EventArray

        array = EventArray(t=ev.t, x=ev.x, y=ev.y, p=ev.p.view(np.uint8))
        rows["evutils (1 channel)"] = lambda: timesurface(array, width, height, TAU_US)
    return rows


def eight(stream: Stream) -> common.Rows:
    ev = stream.events
    rows: common.Rows = {
        "eventkit": lambda: eventkit.time_surface(
            ev, sensor_size=stream.size, tau_us=TAU_US, convention="hots", bins=STEPS
        )
    }
    if common.peer("tonic"):
        from tonic.transforms import ToTimesurface

        dt = int(ev.t[-1] - ev.t[0]) // STEPS
        surface = ToTimesurface((*stream.size, 2), dt=dt, tau=float(TAU_US))
        structured = stream.tonic
        rows["tonic ToTimesurface"] = lambda: surface(structured)
    return rows


def event_store(dv: object, events: eventkit.Events) -> object:
    """The events as dv-processing takes them."""
    store = dv.EventStore()  # type: ignore[attr-defined]
    columns = (events.t.tolist(), events.x.tolist(), events.y.tolist(), events.p.tolist())
    for t, x, y, p in zip(*columns, strict=True):
        store.push_back(t, x, y, bool(p))
    return store


def main(report: common.Report, *, rounds: int = 9) -> None:
    for stream in streams(large=False):
        label = stream.label
        ratios = common.compare(
            f"one surface, {label}", one(stream), against="eventkit", rounds=rounds
        )
        if "recording" not in label:
            got = ratios.get("dv-processing (1 channel, 8 bit)")
            report.add("time surface, one", "dv-processing", label, got, 1.2)
        ratios = common.compare(
            f"eight surfaces, {label}", eight(stream), against="eventkit", rounds=rounds
        )
        if "recording" not in label:
            target = 10 if label.startswith("346") else 8
            got = ratios.get("tonic ToTimesurface")
            report.add("time surface, eight", "tonic ToTimesurface", label, got, target)


if __name__ == "__main__":
    REPORT = common.Report()
    main(REPORT)
    REPORT.print()
