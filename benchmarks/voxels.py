"""Voxel grids (zhu), 8 bins: tonic and eventcv; one thread."""

from __future__ import annotations

import common
import numpy as np
from streams import Stream, streams

import eventkit

BINS = 8
TONIC = {"346x260, 1e+06": 12, "346x260, 1e+07": 40, "1280x720, 1e+06": 5, "1280x720, 1e+07": 20}


def rows_of(stream: Stream) -> common.Rows:
    ev = stream.events
    rows: common.Rows = {
        "eventkit": lambda: eventkit.voxel_grid(ev, sensor_size=stream.size, bins=BINS)
    }
    if common.peer("tonic"):
        from tonic.transforms import ToVoxelGrid

        grid, structured = ToVoxelGrid((*stream.size, 2), n_time_bins=BINS), stream.tonic
        rows["tonic ToVoxelGrid"] = lambda: grid(structured)
    if eventcv := common.peer("eventcv"):
        matrix = np.stack([ev.x.astype(np.int64), ev.y, ev.t, ev.p], 1)
        whole = eventcv.from_numpy(matrix, sensor_size=stream.size, time_unit="us")
        span = int(ev.t[-1] - ev.t[0]) + 1
        rows["eventcv voxel"] = lambda: whole.voxel(bins=BINS, window_us=span).numpy()
    return rows


def main(report: common.Report, *, rounds: int = 9) -> None:
    for stream in streams():
        label = stream.label
        ratios = common.compare(
            f"voxels zhu, {label}", rows_of(stream), against="eventkit", rounds=rounds
        )
        if label in TONIC:
            tonic = ratios.get("tonic ToVoxelGrid")
            report.add("voxels zhu", "tonic ToVoxelGrid", label, tonic, TONIC[label])
            report.add("voxels zhu", "eventcv", label, ratios.get("eventcv voxel"), 2.6)


if __name__ == "__main__":
    REPORT = common.Report()
    main(REPORT)
    REPORT.print()
