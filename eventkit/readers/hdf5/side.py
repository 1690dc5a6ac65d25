"""What stands beside the events of an HDF5 file: the sensor's size, pictures, triggers, IMU."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import FormatError
from eventkit.events import TimeUnit
from eventkit.frames import Frames, Picture
from eventkit.readers import geometry
from eventkit.readers.base import ReadOptions
from eventkit.readers.hdf5.file import File, attribute_of, faults, library, opened
from eventkit.readers.hdf5.layouts import Layout
from eventkit.readers.mat_numbers import assumed
from eventkit.readers.time_unit import microseconds
from eventkit.sources import Source
from eventkit.triggers import CHANNEL_DTYPE

MOST_FRAMES = 1_000_000

_Size = tuple[int, int] | None


def geometry_of(file: File, layout: Layout, options: ReadOptions) -> geometry.Geometry:
    """Settle the sensor size; the size of a published data set is an assumption.

    Raises
    ------
    FormatError
        If what the file says is damaged or no size; policies that go on note it instead.
    """
    try:
        return _geometry_of(file, layout, options)
    except FormatError as fault:
        options.book(fault)
    return geometry.settle(file.source, options.sensor_size)


def _geometry_of(file: File, layout: Layout, options: ReadOptions) -> geometry.Geometry:
    parent = layout.place.rpartition("/")[0]
    found = geometry.settle(
        file.source,
        options.sensor_size,
        (_written(file), "attribute 'geometry'"),
        (_sides(file, layout), "width and height in the file"),
        (_pair(file, f"{layout.place}/calib/resolution"), "calib/resolution"),
        (_pair(file, f"{parent}/calib/resolution"), "calib/resolution"),
        (_attribute(file, layout, "sensor_size"), "attribute 'sensor_size'"),
        _resolution(file),
        (_of_pictures(file, layout), "size of the pictures of the same camera"),
    )
    if found.size is not None:
        return found
    if layout.place.startswith("davis/"):
        return geometry.Geometry((346, 260), "assumed MVSEC's 346x260, by the names in the file")
    if "t_offset" in file.root and "ms_to_idx" in file.root and layout.place == "events":
        # Larger sensors are published in the same layout.
        first = layout.sample(file, "xy", strict=options.strict)
        return assumed(first["x"], first["y"], ("DSEC's 640x480", (640, 480)))
    return found


def _checked(file: File, sides: Sequence[Any], where: str) -> tuple[int, int]:
    """Return (W, H), or say that it is none."""
    values = [float(side) for side in sides[:2]]
    if len(values) == 2 and all(v == v // 1 and 0 < v <= 65536 for v in values):
        return int(values[0]), int(values[1])
    msg = f"expected a sensor size of 1x1 to 65536x65536 in {where}, got {list(sides)}"
    raise FormatError(msg, path=file.source.name, reason="bad_header")


def _written(file: File) -> _Size:
    text = str(file.attribute(file.root, "geometry"))
    match = re.fullmatch(r"\s*(\d{1,6})\s*x\s*(\d{1,6})\s*", text)
    return None if match is None else _checked(file, (int(match[1]), int(match[2])), "'geometry'")


def _sides(file: File, layout: Layout) -> _Size:
    """Return ``width`` and ``height``: attributes, or scalars as RVT has them."""
    places = [file.member(file.root, layout.place or "/"), file.root]
    for place in places:
        sides = [_scalar(file, place, name) for name in ("width", "height")]
        if None not in sides:
            return _checked(file, sides, "width and height")
    return None


def _scalar(file: File, place: Any, name: str) -> Any:
    value = file.attribute(place, name)
    if value is None and isinstance(place, library().Group):
        dset = file.member(place, name)
        is_number = isinstance(dset, library().Dataset) and dset.dtype.kind in "iuf"
        if is_number and dset.size == 1 and file.is_there(dset):
            value = dset[()]
    if value is None:
        return None
    number = np.asarray(value)
    return number.reshape(-1)[0] if number.size == 1 and number.dtype.kind in "iuf" else None


def _pair(file: File, place: str) -> _Size:
    """Return (W, H) of a dataset with two numbers."""
    dset = file.member(file.root, place.strip("/"))
    if (
        not isinstance(dset, library().Dataset)
        or dset.shape != (2,)
        or dset.dtype.kind not in "iuf"
    ):
        return None
    return _checked(file, dset[()].tolist(), place)


def _attribute(file: File, layout: Layout, name: str) -> _Size:
    for place in (file.root[layout.place or "/"], file.root):
        value = file.attribute(place, name)
        if value is not None:
            sides = np.asarray(value).reshape(-1)
            if sides.dtype.kind in "iuf" and sides.size >= 2:
                return _checked(file, sides.tolist(), f"{name!r}")
    return None


def _resolution(file: File) -> tuple[_Size, str]:
    """Return what ``sensor_resolution`` of event_utils says, which has (H, W).

    Some tools write (W, H) there. Pictures decide; without them, so does that sensors are wider
    than high.
    """
    where = "attribute 'sensor_resolution'"
    value = np.asarray(file.attribute(file.root, "sensor_resolution")).reshape(-1)
    if value.dtype.kind not in "iuf" or value.size < 2:
        return None, where
    first, second = _checked(file, value.tolist(), where)
    shape = _first_picture_shape(file)
    if shape is not None and shape[:2] in ((first, second), (second, first)):
        return (shape[1], shape[0]), f"{where}, in the order that the pictures have"
    if first > second:
        return (first, second), f"{where}, assumed to be (W, H) as sensors are wider than high"
    return (second, first), f"{where}, (H, W)"


def _of_pictures(file: File, layout: Layout) -> _Size:
    """Return the size of MVSEC's pictures: a DAVIS has one array of pixels for both."""
    parent = layout.place.rpartition("/")[0]
    dset = file.member(file.root, f"{parent}/image_raw".strip("/"))
    if isinstance(dset, library().Dataset) and dset.ndim == 3:
        return _checked(file, (dset.shape[2], dset.shape[1]), dset.name)
    return None


def _first_picture_shape(file: File) -> tuple[int, ...] | None:
    group = file.member(file.root, "images")
    if isinstance(group, library().Group):
        for name in islice(group, 1):
            member = group[name]
            if isinstance(member, library().Dataset) and member.ndim in (2, 3):
                return tuple(int(side) for side in member.shape)
    return None


def frames_of(file: File, layout: Layout, unit: TimeUnit) -> Frames | None:
    """Return the pictures beside the events, if there are any: MVSEC's or event_utils'.

    Raises
    ------
    FormatError
        If there are pictures whose times are missing or no numbers.
    """
    parent = layout.place.rpartition("/")[0]
    stack = file.member(file.root, f"{parent}/image_raw".strip("/"))
    times = file.member(file.root, f"{parent}/image_raw_ts".strip("/"))
    is_set = (isinstance(part, library().Dataset) for part in (stack, times))
    if all(is_set) and stack.ndim in (3, 4) and times.ndim == 1:
        return _of_stack(file, stack, times, unit)
    group = file.member(file.root, "images")
    if isinstance(group, library().Group):
        return _of_group(file, group, unit)
    return None


def _of_stack(file: File, stack: Any, times: Any, unit: TimeUnit) -> Frames | None:
    file.check(stack)
    file.check(times)
    count = min(file.rows(stack), file.rows(times))
    shape = tuple(int(side) for side in stack.shape[1:])
    if not count or not _is_picture(shape, stack.dtype):
        return None
    source, place = file.source, stack.name

    def read(again: File, index: int) -> NDArray[Any]:
        return np.asarray(again.root[place][index])

    return _frames(source, np.asarray(times[:count]), shape, unit, read)


def _of_group(file: File, group: Any, unit: TimeUnit) -> Frames | None:
    """Make frames of one dataset for each picture, with its time as an attribute."""
    names, times = _stamps(file, group)
    if not names:
        return None
    first = group[names[0]]
    shape = tuple(int(side) for side in first.shape or ())
    if not _is_picture(shape, first.dtype):
        return None
    place = group.name

    def read(again: File, index: int) -> NDArray[Any]:
        dset = again.root[f"{place}/{names[index]}"]
        if tuple(dset.shape) != shape or dset.dtype != first_type:
            msg = f"expected pictures of {shape}, got {dset.shape} in {dset.name}"
            raise FormatError(msg, path=file.source.name, reason="corrupt")
        pixels = np.asarray(dset[()])
        swapped = str(again.attribute(dset, "type")) == "color_bgr"
        return pixels[..., ::-1] if swapped and pixels.ndim == 3 else pixels

    first_type = first.dtype
    return _frames(file.source, times, shape, unit, read)


def _stamps(file: File, group: Any) -> tuple[list[str], NDArray[Any]]:
    """Return the names of pictures and their times, each looked up once.

    There are thousands of them: not through h5py's objects, which take seven times as long.
    """
    names, times = [], []
    for name in islice(group, MOST_FRAMES):
        stamp = attribute_of(group, name, "timestamp")
        if stamp is None:
            continue
        if stamp.dtype.kind not in "iuf" or math.prod(stamp.shape) != 1:
            msg = f"expected a number as time stamp of {name}, got {stamp.dtype} {stamp.shape}"
            raise FormatError(msg, path=file.source.name, reason="bad_value")
        value = np.empty(stamp.shape, stamp.dtype)
        stamp.read(value)
        names.append(name)
        times.append(value.item())
    return names, np.asarray(times)


def _is_picture(shape: tuple[int, ...], dtype: Any) -> bool:
    plain = len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))
    fits = all(0 < side <= 65536 for side in shape)
    return plain and fits and dtype in (np.dtype(np.uint8), np.dtype(np.uint16))


def _frames(
    source: Source,
    times: NDArray[Any],
    shape: tuple[int, ...],
    unit: TimeUnit,
    read: Callable[[File, int], NDArray[Any]],
) -> Frames:
    t, bad = microseconds(times, unit)
    if bad is not None:
        msg = f"expected times of pictures, got {times[int(np.argmax(bad))]}"
        raise FormatError(msg, path=source.name, reason="bad_value")
    order = np.argsort(t, kind="stable")
    t = t[order]

    def reader(indices: Sequence[int]) -> Iterator[Picture]:
        with opened(source) as file:
            for index in indices:
                with faults(source):
                    pixels = read(file, int(order[index]))
                if pixels.ndim == 2:
                    pixels = pixels[:, :, None]
                yield Picture(np.ascontiguousarray(pixels))

    channels = shape[2] if len(shape) == 3 else 1
    return Frames(t, t, t, (shape[1], shape[0]), channels, "recorded", reader)


def arrays_of(
    file: File, layout: Layout, unit: TimeUnit, options: ReadOptions
) -> Callable[[], Mapping[str, NDArray[Any]]] | None:
    """Return what reads triggers (Prophesee) and IMU samples (MVSEC), if there are any."""
    parent = layout.place.rpartition("/")[0]
    triggers = file.member(file.root, "EXT_TRIGGER/events")
    imu = file.member(file.root, f"{parent}/imu".strip("/"))
    stamps = file.member(file.root, f"{parent}/imu_ts".strip("/"))
    dataset = library().Dataset
    has_triggers = isinstance(triggers, dataset) and "t" in (triggers.dtype.names or ())
    has_imu = isinstance(imu, dataset) and isinstance(stamps, dataset) and imu.ndim == 2
    if not has_triggers and not has_imu:
        return None
    source = file.source
    places = (imu.name, stamps.name) if has_imu else ("", "")

    def read() -> Mapping[str, NDArray[Any]]:
        found = {}
        with opened(source) as again:
            if has_triggers:
                with options.booking(), faults(source):
                    found["triggers"] = _triggers(again, unit)
            if has_imu:
                with options.booking(), faults(source):
                    found["imu"] = _imu(again, places[0], places[1], unit)
        return found

    return read


def _triggers(file: File, unit: TimeUnit) -> NDArray[Any]:
    """Return the signals as `eventkit.triggers.CHANNEL_DTYPE`; the file calls the channel id."""
    dset = file.root["EXT_TRIGGER/events"]
    file.check(dset)
    rows = dset[: file.rows(dset)]
    out = np.zeros(rows.size, CHANNEL_DTYPE)
    out["t"] = microseconds(rows["t"], unit)[0]
    for column, name in (("source", "id"), ("p", "p")):
        if name in rows.dtype.names:
            out[column] = rows[name]
    return out


def _imu(file: File, place: str, stamps: str, unit: TimeUnit) -> NDArray[Any]:
    """Return (N,) with ``t`` and the columns as they stand: MVSEC has m/s^2 x3, then rad/s x3."""
    dset, times = file.root[place], file.root[stamps]
    file.check(dset)
    file.check(times)
    count = min(file.rows(dset), file.rows(times))
    width = int(dset.shape[1])
    names = (
        [f"{kind}_{axis}" for kind in ("linear_acceleration", "angular_velocity") for axis in "xyz"]
        if width == 6
        else [f"column_{k}" for k in range(min(width, 64))]
    )
    out = np.zeros(count, [("t", "<i8"), *((name, "<f8") for name in names)])
    out["t"] = microseconds(np.asarray(times[:count]), unit)[0]
    rows = dset[:count]
    for k, name in enumerate(names):
        out[name] = rows[:, k]
    return out
