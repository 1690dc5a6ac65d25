"""HDF5 files as other tools write them, made with h5py alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from eventkit.events import Events

OFFSET_US = 49_599_300_523
EPOCH_US = 1_504_645_177_000_000


def stream(n: int = 4000, size: tuple[int, int] = (240, 180), *, seed: int = 0) -> Events:
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 200_000, n))
    return Events(
        x=rng.integers(0, size[0], n), y=rng.integers(0, size[1], n), t=t, p=rng.integers(0, 2, n)
    )


def write_columns(
    path: Path, columns: dict[str, Any], *, place: str = "events", **options: Any
) -> h5py.File:
    file = h5py.File(path, "w", libver=options.pop("libver", None))
    for name, values in columns.items():
        # h5py refuses chunks that are longer than the data.
        small = {"chunks": True, "maxshape": (None,)} if len(values) < 512 else {}
        file.create_dataset(f"{place}/{name}", data=values, **(options | small))
    return file


def dsec(path: Path, ev: Events, **options: Any) -> Path:
    options = options or {"chunks": (512,), "compression": "gzip"}
    columns = {"p": ev.p.astype("u1"), "t": ev.t.astype("u4"), "x": ev.x, "y": ev.y}
    with write_columns(path, columns, **options) as file:
        last = int(ev.t[-1]) // 1000 + 1 if len(ev) else 0
        file["ms_to_idx"] = np.searchsorted(ev.t, np.arange(last) * 1000).astype("u8")
        file["t_offset"] = np.int64(OFFSET_US)
    return path


def event_utils(path: Path, ev: Events, *, pictures: int = 3, **options: Any) -> Path:
    columns = {"xs": ev.x.astype("i2"), "ys": ev.y.astype("i2"), "ts": ev.t / 1e6, "ps": ev.p > 0}
    with write_columns(path, columns, **options) as file:
        file.attrs["sensor_resolution"] = (180, 240)
        for k in range(pictures):
            pixels = np.full((180, 240), k, np.uint8)
            dset = file.create_dataset(f"images/image{k:09d}", data=pixels)
            dset.attrs["timestamp"] = 0.05 * k
    return path


def mvsec(path: Path, ev: Events, *, pictures: bool = True) -> Path:
    with h5py.File(path, "w") as file:
        for camera, shift in (("left", 0), ("right", 1)):
            t = (ev.t + EPOCH_US + shift) / 1e6
            table = np.stack([ev.x, ev.y, t, ev.p * 2.0 - 1], 1)
            group = file.create_group(f"davis/{camera}")
            group.create_dataset(
                "events", data=table, chunks=(min(len(ev), 512), 4), compression="gzip"
            )
            if pictures:
                group["image_raw"] = np.arange(3, dtype="u1").repeat(180 * 240).reshape(3, 180, 240)
                group["image_raw_ts"] = EPOCH_US / 1e6 + 0.05 * np.arange(3)
                group["imu"] = np.arange(12.0).reshape(2, 6)
                group["imu_ts"] = EPOCH_US / 1e6 + np.array([0.001, 0.002])
    return path


def rvt(path: Path, ev: Events, **options: Any) -> Path:
    with write_columns(path, {"p": ev.p, "t": ev.t, "x": ev.x, "y": ev.y}, **options) as file:
        file["events/height"], file["events/width"] = 180, 240
    return path


def v2e(path: Path, ev: Events) -> Path:
    with h5py.File(path, "w") as file:
        file["events"] = np.stack([ev.t, ev.x, ev.y, ev.p], 1).astype(np.uint32)
    return path


def m3ed(path: Path, ev: Events) -> Path:
    with h5py.File(path, "w") as file:
        for camera in ("left", "right"):
            group = file.create_group(f"prophesee/{camera}")
            group["calib/resolution"] = np.array([240, 180])
            for name in "xytp":
                group[name] = getattr(ev, name)
            group["ms_map_idx"] = np.searchsorted(ev.t, np.arange(ev.t[-1] // 1000) * 1000)
    return path


def compound(path: Path, ev: Events) -> Path:
    kinds = [("timestamp", "<i8"), ("x", "<u2"), ("y", "<u2"), ("polarity", "?")]
    rows = np.zeros(len(ev), kinds)
    rows["timestamp"], rows["x"], rows["y"], rows["polarity"] = ev.t, ev.x, ev.y, ev.p
    with h5py.File(path, "w") as file:
        file.create_dataset("recording/events", data=rows, chunks=(512,), maxshape=(None,))
        file.attrs["width"], file.attrs["height"] = 240, 180
    return path
