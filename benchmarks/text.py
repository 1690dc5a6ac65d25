"""Reading a CSV of whole numbers ``t,x,y,p`` without a header, beside what else reads one."""

from __future__ import annotations

import tempfile
from pathlib import Path

import common  # first: it pins every library to one thread
import numpy as np
from streams import HD, clustered

import eventkit

EVENTS = 3_000_000


def rows_of(path: Path) -> common.Rows:
    """Return one row for each library that reads the file into columns."""
    rows: common.Rows = {
        "eventkit": lambda: eventkit.open(path, columns="txyp").load(),
        "eventkit, columns by evidence": lambda: eventkit.open(path).load(),
    }
    if pl := common.peer("polars"):
        types = {"t": pl.Int64, "x": pl.UInt16, "y": pl.UInt16, "p": pl.Int8}
        rows["polars read_csv"] = lambda: pl.read_csv(
            path, has_header=False, schema=types
        ).get_columns()
    if pd := common.peer("pandas"):
        kinds = {"t": np.int64, "x": np.uint16, "y": np.uint16, "p": np.int8}
        rows["pandas read_csv"] = lambda: pd.read_csv(
            path, header=None, names=list(kinds), dtype=kinds
        )
    if common.peer("evutils"):
        from evutils.io import EventReader

        rows["evutils"] = lambda: EventReader(str(path)).read_all()
    if eventcv := common.peer("eventcv"):
        rows["eventcv"] = lambda: eventcv.load(
            str(path), sensor_size=HD, time_unit="us", order="txyp"
        )
    return rows


def main(report: common.Report, *, rounds: int = 9, events: int = EVENTS) -> None:
    ev = clustered(events, HD)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.csv"
        np.savetxt(path, np.stack([ev.t, ev.x, ev.y, ev.p], 1), "%d", ",")
        assert eventkit.open(path).events == ev
        title = f"CSV, {events / 1e6:g} M events, {path.stat().st_size / 1e6:.0f} MB"
        ratios = common.compare(title, rows_of(path), against="eventkit", rounds=rounds)
    report.add("csv", "polars read_csv", title, ratios.get("polars read_csv"), 2.5)


if __name__ == "__main__":
    REPORT = common.Report()
    main(REPORT)
    REPORT.print()
