"""Inertial samples in the two ways that they are told, and from one to the other.

Cameras have g and degrees a second, ROS has m/s^2 and radians a second (REP 103). Both have the
axes of the sensor itself.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.writers.base import Contents

_ALIKE = (
    ("accelerometer", "linear_acceleration", 9.80665),
    ("gyroscope", "angular_velocity", math.pi / 180),
)
_OTHER = {
    name: other
    for camera, ros, factor in _ALIKE
    for axis in "xyz"
    for name, other in (
        (f"{ros}_{axis}", (f"{camera}_{axis}", factor)),
        (f"{camera}_{axis}", (f"{ros}_{axis}", 1 / factor)),
    )
}
"""Name of a column -> the same in the other way, and the factor from there."""


def imu_columns(imu: NDArray[Any], wanted: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Return those of the wanted columns that samples have, in the units of their names.

    Parameters
    ----------
    imu : (N,) structured array
    wanted : sequence of str
        As ``accelerometer_x`` (g) or ``linear_acceleration_x`` (m/s^2).

    Examples
    --------
    >>> samples = np.array([(9.80665,)], [("linear_acceleration_x", "f8")])
    >>> imu_columns(samples, ["accelerometer_x", "temperature"])
    {'accelerometer_x': array([1.])}
    """
    found = {name: _place(name, imu.dtype.names or ()) for name in wanted}
    return {
        name: imu[place[0]].astype(np.float64) * place[1]
        for name, place in found.items()
        if place is not None
    }


def has_imu(imu: NDArray[Any] | None, wanted: Sequence[str]) -> bool:
    """Return whether there are samples with any of the wanted columns: others are not written."""
    names = () if imu is None or not imu.size else imu.dtype.names or ()
    return any(_place(name, names) is not None for name in wanted)


def imu_losses(
    contents: Contents, wanted: Sequence[str], format: str, *, absent_as: str
) -> list[str]:
    """Return what becomes of inertial samples in a format that has the wanted columns.

    Parameters
    ----------
    contents : Contents
    wanted : sequence of str
    format : str
        Its name in the sentences.
    absent_as : str
        What it has where samples lack a column, as in ``has 0 there``.
    """
    if not contents.imu:
        return []
    places = {name: _place(name, contents.imu_columns) for name in wanted}
    used = {place[0] for place in places.values() if place is not None}
    left = [name for name in contents.imu_columns if name not in used]
    if not used:
        had = _listed(left) or "no columns"
        return [f"{contents.imu} IMU samples are not written: {format} has no place for {had}"]
    absent = [name for name, place in places.items() if place is None]
    lost = []
    if left:
        lost.append(f"IMU columns {_listed(left)} are not written: {format} has no place for them")
    if absent:
        lost.append(f"IMU samples have no {_listed(absent)}: {format} {absent_as}")
    return lost


def _place(name: str, columns: Sequence[str]) -> tuple[str, float] | None:
    """Return the column that has what ``name`` says, and the factor to its unit."""
    if name in columns:
        return name, 1.0
    other = _OTHER.get(name)
    return other if other is not None and other[0] in columns else None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(re.sub("_[wxyz]$", "", name) for name in names))
