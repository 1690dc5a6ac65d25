"""HATS: histograms of averaged time surfaces, one small surface for each cell of the sensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import SettingsError
from eventkit.events import Events
from eventkit.representations.base import (
    Accumulator,
    Outside,
    Representation,
    check_choice,
    check_positive,
)
from eventkit.representations.windowed import BufferedAccumulator
from eventkit.slicing import is_whole
from eventkit.windows import Windows


@dataclass(frozen=True, kw_only=True)
class AveragedSurface(Representation):
    """``surface:hats``: averaged time surfaces (Sironi et al. 2018), as tonic computes them.

    Parameters
    ----------
    cell_size : int, pixels
        Side of a cell; those at the right and lower border may reach beyond the sensor.
    surface_size : int, pixels
        K = 2 rho + 1, odd and at most ``cell_size``.
    time_window_us : int, microseconds
        How far back an event looks, inclusive.
    tau_us : float, microseconds
    decay : {"exp", "linear"}
        ``w(age) = exp(-age / tau)`` or ``1 - age / (3 tau)``, which may fall below 0.

    Notes
    -----
    The surface of a cell and polarity is, at offset z = (dy, dx) within rho, the sum of
    ``w(t_i - t_j)`` over all pairs of an event i of the cell and polarity and an earlier event j of
    them at pixel ``x_i + z`` with ``t_i - t_j <= time_window``, and 1 at the centre for i itself,
    divided by the number of events i. Events at one time count as earlier in stream order, with
    weight 1. A neighbour in another cell is not seen. This is tonic's ``ToAveragedTimesurface``,
    which departs from the paper twice: the paper leaves out the event itself, and divides by the
    events of the cell of both polarities. tonic holds times as float32, so it is right for times
    that are not negative and below 2^24 us; here they are exact.

    Frames are (2, ceil(H / cell) K, ceil(W / cell) K) float32: the surfaces of OFF and of ON, laid
    side by side as the cells are. `as_cells` has tonic's layout. Sums are in float64. Without
    events a cell is 0. Memory is the events of the open windows and 8 bytes for each.

    Examples
    --------
    >>> ev = Events(x=[1, 2], y=[1, 1], t=[0, 1000], p=[1, 1])
    >>> hats = AveragedSurface(cell_size=3, surface_size=3, tau_us=1000)
    >>> hats(ev, sensor_size=(3, 3))[1].round(3).tolist()
    [[0.0, 0.0, 0.0], [0.184..., 1.0, 0.0], [0.0, 0.0, 0.0]]
    """

    name: ClassVar[str] = "surface:hats"
    cell_size: int = 10
    surface_size: int = 5
    time_window_us: int = 1000
    tau_us: float = 100.0
    decay: Literal["exp", "linear"] = "exp"

    def __post_init__(self) -> None:
        check_positive(tau_us=self.tau_us)
        check_choice("decay", self.decay, ("exp", "linear"))
        limits = {"cell_size": 65536, "surface_size": 255, "time_window_us": (1 << 62) - 1}
        for name, most in limits.items():
            value = getattr(self, name)
            if not is_whole(value, 1, most):
                msg = f"expected {name} as a whole number of 1 to {most}, got {value}"
                raise SettingsError(msg)
        if self.surface_size % 2 == 0 or self.surface_size > self.cell_size:
            msg = (
                "expected surface_size odd and at most cell_size, "
                f"got {self.surface_size} and {self.cell_size}"
            )
            raise SettingsError(msg)

    @property
    def frame_dtype(self) -> np.dtype[Any]:
        """Float32."""
        return np.dtype(np.float32)

    def cells(self, sensor_size: tuple[int, int]) -> tuple[int, int]:
        """Return how many cells there are down and across."""
        return -(-sensor_size[1] // self.cell_size), -(-sensor_size[0] // self.cell_size)

    def frame_shape(self, sensor_size: tuple[int, int]) -> tuple[int, int, int]:
        """Return (2, cells down * K, cells across * K): OFF, ON."""
        down, across = self.cells(sensor_size)
        return 2, down * self.surface_size, across * self.surface_size

    def as_cells(self, frames: NDArray[Any]) -> NDArray[Any]:
        """Return (..., 2, down * K, across * K) as tonic lays it out, (..., cells, 2, K, K).

        Cell ``row * across + column``.

        Examples
        --------
        >>> hats = AveragedSurface(cell_size=3, surface_size=3)
        >>> hats.as_cells(np.zeros(hats.frame_shape((7, 5)))).shape
        (6, 2, 3, 3)
        """
        side = self.surface_size
        *lead, two, high, wide = frames.shape
        tiles = frames.reshape(*lead, two, high // side, side, wide // side, side)
        n = len(lead)
        order = (*range(n), n + 1, n + 3, n, n + 2, n + 4)
        return tiles.transpose(order).reshape(*lead, -1, two, side, side)

    def _start(
        self, windows: Windows, sensor_size: tuple[int, int], out: NDArray[Any], outside: Outside
    ) -> Accumulator:
        return HatsAccumulator(self, windows, sensor_size=sensor_size, out=out, outside=outside)


class HatsAccumulator(BufferedAccumulator):
    """Averages the events of a window when it has ended."""

    def __init__(self, settings: AveragedSurface, windows: Windows, **keywords: Any) -> None:
        super().__init__(windows, **keywords)
        self._settings = settings

    def _fill(self, k: int, events: Events) -> None:
        from eventkit.kernels.hats import average, group_by_cell

        if not len(events):
            self.out[k] = 0
            return
        settings = self._settings
        down, across = settings.cells(self.sensor_size)
        order = np.empty(len(events), np.int64)
        bounds = np.empty(2 * down * across + 1, np.int64)
        x, y, t, p = events.x, events.y, events.t, events.p
        group_by_cell(x, y, p, settings.cell_size, across, down, order, bounds)
        average(
            x,
            y,
            t,
            order,
            bounds,
            across,
            settings.surface_size // 2,
            int(settings.time_window_us),
            min(1 / (settings.tau_us * (3 if settings.decay == "linear" else 1)), 1e250),
            settings.decay == "linear",
            self.out[k].reshape(-1, self.out.shape[-1]),
        )
