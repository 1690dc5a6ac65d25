"""Filters: background activity beside dv-processing and tonic, refractory beside eventcv."""

from __future__ import annotations

import common
import numpy as np
from streams import Stream, streams
from surfaces import event_store

from eventkit.filters import background_activity, refractory

WITHIN_US, REFRACTORY_US = 2_000, 1_000


def background(stream: Stream) -> common.Rows:
    ev, size = stream.events, stream.size
    rows: common.Rows = {
        "eventkit": lambda: background_activity(ev, sensor_size=size, within_us=WITHIN_US - 1)
    }
    if dv := common.peer("dv_processing"):
        from datetime import timedelta

        store = event_store(dv, ev)

        def denoise() -> object:
            filtering = dv.noise.BackgroundActivityNoiseFilter(
                size, backgroundActivityDuration=timedelta(microseconds=WITHIN_US)
            )
            filtering.accept(store)
            return filtering.generateEvents()

        rows["dv-processing"] = denoise
    if common.peer("tonic"):
        from tonic.transforms import Denoise

        transform, few = Denoise(filter_time=WITHIN_US), stream.tonic[:100_000]
        part = ev[:100_000]
        rows["tonic Denoise, a tenth"] = lambda: transform(few)
        rows["eventkit, a tenth"] = lambda: background_activity(
            part, sensor_size=size, within_us=WITHIN_US - 1, neighbours=4
        )
    return rows


def dead_time(stream: Stream) -> common.Rows:
    ev, size = stream.events, stream.size
    rows: common.Rows = {
        "eventkit": lambda: refractory(ev, sensor_size=size, period_us=REFRACTORY_US)
    }
    if eventcv := common.peer("eventcv"):
        matrix = np.stack([ev.x.astype(np.int64), ev.y, ev.t, ev.p], 1)
        whole = eventcv.from_numpy(matrix, sensor_size=size, time_unit="us")
        rows["eventcv"] = lambda: whole.refractory_filter(REFRACTORY_US)
    return rows


def main(report: common.Report, *, rounds: int = 9) -> None:
    for stream in streams(large=False):
        label = stream.label
        ratios = common.compare(
            f"background activity, {label}", background(stream), against="eventkit", rounds=rounds
        )
        if "recording" in label:
            continue
        report.add("background activity", "dv-processing", label, ratios.get("dv-processing"), 2)
        slow = ratios.get("tonic Denoise, a tenth")
        tonic = None if slow is None else slow / ratios["eventkit, a tenth"]
        report.add("background activity", "tonic Denoise", label, tonic, 200)
        ratios = common.compare(
            f"refractory, {label}", dead_time(stream), against="eventkit", rounds=rounds
        )
        report.add("refractory", "eventcv", label, ratios.get("eventcv"), 1.5)


if __name__ == "__main__":
    REPORT = common.Report()
    main(REPORT)
    REPORT.print()
