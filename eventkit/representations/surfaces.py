"""Time surfaces: how long ago each pixel last saw an event, in three conventions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Unpack

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import SettingsError
from eventkit.events import Events
from eventkit.representations.base import (
    Accumulator,
    EventsLike,
    FrameOptions,
    Outside,
    Representation,
    check_choice,
    check_positive,
    run,
)
from eventkit.representations.windowed import WindowedAccumulator
from eventkit.slicing import is_whole
from eventkit.windows import Windows

SURFACE_CONVENTIONS = ("sae", "hots", "speed-invariant")
DECAYS = ("exp", "linear")
Decay = Literal["exp", "linear"]
# Times relative to an origin are int32 below this span, int64 from there on: the difference of any
# two, and of -1 for "never", is then int32 too.
NARROW_US = (1 << 31) - 1
# Beyond 126 ln 2 time constants exp is below 2^-126 and written as 0.
EXP_REACH = 126 * math.log(2)
MAX_RADIUS = 127
# Up to this radius the largest value, (2 r + 1)^2, is a byte.
BYTE_RADIUS = 7


@dataclass(frozen=True, kw_only=True)
class _Decaying(Representation):
    """Surfaces that decay with age; ``tau_us`` is the time constant in microseconds."""

    tau_us: float = 50_000.0

    def __post_init__(self) -> None:
        check_positive(tau_us=self.tau_us)

    @property
    def frame_dtype(self) -> np.dtype[Any]:
        """Float32."""
        return np.dtype(np.float32)

    def frame_shape(self, sensor_size: tuple[int, int]) -> tuple[int, int, int]:
        """Return (2, H, W): OFF, ON."""
        return 2, sensor_size[1], sensor_size[0]


@dataclass(frozen=True, kw_only=True)
class ActiveEvents(_Decaying):
    """``surface:sae``: age at the window's last microsecond, no memory; see `time_surface`.

    Parameters
    ----------
    tau_us : float, microseconds
    decay : {"exp", "linear"}
        ``exp(-age / tau)`` or ``max(0, 1 - age / tau)``.
    """

    name: ClassVar[str] = "surface:sae"
    decay: Decay = "exp"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("decay", self.decay, DECAYS)

    def _start(
        self, windows: Windows, sensor_size: tuple[int, int], out: NDArray[Any], outside: Outside
    ) -> Accumulator:
        return ActiveAccumulator(self, windows, sensor_size=sensor_size, out=out, outside=outside)


@dataclass(frozen=True, kw_only=True)
class HotsSurface(_Decaying):
    """``surface:hots``: age at the window's stop, memory over all windows; see `time_surface`.

    Parameters
    ----------
    tau_us : float, microseconds
    """

    name: ClassVar[str] = "surface:hots"

    def _start(
        self, windows: Windows, sensor_size: tuple[int, int], out: NDArray[Any], outside: Outside
    ) -> Accumulator:
        return HotsAccumulator(self, windows, sensor_size=sensor_size, out=out, outside=outside)


@dataclass(frozen=True, kw_only=True)
class SpeedInvariant(Representation):
    """``surface:speed-invariant``: order of events instead of their times; see `time_surface`.

    Parameters
    ----------
    radius : int, pixels
        r: the patch is ``2 r + 1`` wide. 1 to 127.
    polarity : {"split", "merged"}
        A surface for each polarity (the paper), or one of all events (dv-processing).
    ties : {"decrease", "keep"}
        Neighbours as new as the pixel was: decrease too (the paper), or stay (dv-processing).
    """

    name: ClassVar[str] = "surface:speed-invariant"
    radius: int = 4
    polarity: Literal["split", "merged"] = "split"
    ties: Literal["decrease", "keep"] = "decrease"

    def __post_init__(self) -> None:
        check_radius(self.radius)
        check_choice("polarity", self.polarity, ("split", "merged"))
        check_choice("ties", self.ties, ("decrease", "keep"))

    @property
    def frame_dtype(self) -> np.dtype[Any]:
        """Uint8 up to radius 7, then uint16: the largest value is ``(2 r + 1)^2``."""
        return np.dtype(np.uint8 if self.radius <= BYTE_RADIUS else np.uint16)

    def frame_shape(self, sensor_size: tuple[int, int]) -> tuple[int, int, int]:
        """Return (2, H, W): OFF, ON; merged (1, H, W)."""
        return 2 if self.polarity == "split" else 1, sensor_size[1], sensor_size[0]

    def _start(
        self, windows: Windows, sensor_size: tuple[int, int], out: NDArray[Any], outside: Outside
    ) -> Accumulator:
        return OrderAccumulator(self, windows, sensor_size=sensor_size, out=out, outside=outside)


def check_radius(radius: int) -> None:
    """Raise `SettingsError` unless ``radius`` is a whole number from 1 to 127."""
    if not is_whole(radius, 1, MAX_RADIUS):
        msg = f"expected a whole radius of 1 to {MAX_RADIUS} pixels, got {radius}"
        raise SettingsError(msg)


def time_type(span: int) -> np.dtype[Any]:
    """Return the type of times relative to the start of ``span`` microseconds."""
    if span >= 1 << 63:
        msg = f"expected windows that span less than 2^63 us, got {span}; is a time damaged?"
        raise SettingsError(msg)
    return np.dtype(np.int32 if span < NARROW_US else np.int64)


def record(events: Events, sensor_size: tuple[int, int], origin: int, last: NDArray[Any]) -> int:
    """Write the relative time of each event to its cell of ``last`` (2*H*W,)."""
    from eventkit.kernels.surfaces import latest

    width, height = sensor_size
    return int(latest(events.x, events.y, events.t, events.p, width, height, origin, last))


def fade(
    last: NDArray[Any], now: int, tau_us: float, decay: Decay, out: NDArray[np.float32]
) -> None:
    """Write the surface at relative time ``now``; ``last`` and ``out`` may share their memory."""
    from eventkit.kernels.surfaces import decay_exp, decay_linear

    kind = last.dtype.type
    # A scale beyond 1e18 makes no difference to whole microseconds, but would overflow.
    if decay == "linear":
        decay_linear(last, kind(now), kind(0), np.float32(min(1 / tau_us, 1e18)), out)
        return
    floor = max(0, now - int(EXP_REACH * tau_us)) if EXP_REACH * tau_us < now else 0
    scale = np.float32(min(1 / (math.log(2) * tau_us), 1e18))
    decay_exp(last, kind(now), kind(floor), scale, out)


class ActiveAccumulator(WindowedAccumulator):
    """Surfaces without memory of earlier windows.

    Times lie in ``out`` itself until the window ends, so there is no other state; a window of 2^31
    us or longer takes 8 bytes a cell while it is open.
    """

    def __init__(self, settings: ActiveEvents, windows: Windows, **keywords: Any) -> None:
        super().__init__(windows, **keywords)
        self._settings = settings
        self._open: dict[int, NDArray[Any]] = {}

    def _add_to(self, k: int, events: Events) -> int:
        start, stop = (int(v) for v in self.windows.spans[k])
        if k not in self._open:
            kind, cells = time_type(stop - start), self.out[k].reshape(-1)
            narrow = kind == np.int32
            self._open[k] = cells.view(kind) if narrow else np.empty(cells.size, kind)
            self._open[k].fill(-1)
        return record(events, self.sensor_size, start, self._open[k])

    def _close(self, k: int) -> None:
        last = self._open.pop(k, None)
        if last is None:
            self.out[k] = 0
            return
        start, stop = (int(v) for v in self.windows.spans[k])
        settings, out = self._settings, self.out[k].reshape(-1)
        fade(last, stop - 1 - start, settings.tau_us, settings.decay, out)


class HotsAccumulator(WindowedAccumulator):
    """Surfaces that remember; the state is 4 bytes a cell, 8 where the windows span 2^31 us."""

    memory: ClassVar[bool] = True

    def __init__(self, settings: HotsSurface, windows: Windows, **keywords: Any) -> None:
        super().__init__(windows, **keywords)
        self._tau = settings.tau_us
        self._origin = int(windows.spans[0, 0]) if len(windows) else 0
        span = int(windows.spans[-1, 1]) - self._origin if len(windows) else 0
        width, height = self.sensor_size
        self._last = np.full(2 * width * height, -1, time_type(span))

    def _add_to(self, k: int, events: Events) -> int:
        return record(events, self.sensor_size, self._origin, self._last)

    def _close(self, k: int) -> None:
        now = int(self.windows.spans[k, 1]) - self._origin
        fade(self._last, now, self._tau, "exp", self.out[k].reshape(-1))


class OrderAccumulator(WindowedAccumulator):
    """The speed-invariant surface; the state is one padded frame."""

    memory: ClassVar[bool] = True

    def __init__(self, settings: SpeedInvariant, windows: Windows, **keywords: Any) -> None:
        from eventkit.kernels.surfaces import LANES

        super().__init__(windows, **keywords)
        self._settings = settings
        width, height = self.sensor_size
        pad = 2 * settings.radius
        shape = (self.out.shape[1], height + pad, width + pad + LANES)
        self._table = np.zeros(shape, self.out.dtype)

    def _add_to(self, k: int, events: Events) -> int:
        from eventkit.kernels.surfaces import speed_invariant

        settings, (width, height) = self._settings, self.sensor_size
        return int(
            speed_invariant(
                events.x,
                events.y,
                events.p,
                width,
                height,
                settings.radius,
                int(settings.ties == "keep"),
                int(settings.polarity == "split"),
                self._table.reshape(-1),
                self._table.shape[2],
            )
        )

    def _close(self, k: int) -> None:
        (width, height), r = self.sensor_size, self._settings.radius
        self.out[k] = self._table[:, r : r + height, r : r + width]


def time_surface(
    events: EventsLike,
    *,
    sensor_size: tuple[int, int],
    tau_us: float | None = None,
    convention: str = "sae",
    decay: Decay | None = None,
    radius: int | None = None,
    **options: Unpack[FrameOptions],
) -> NDArray[Any]:
    """Show how long ago each pixel last saw an event of either polarity.

    Parameters
    ----------
    events : Events, structured array or mapping of columns
    sensor_size : (W, H)
    tau_us : float, microseconds
        Time constant of ``sae`` and ``hots``; default 50 000.
    convention : {"sae", "hots", "speed-invariant"}
        ``sae``, surface of active events: ``exp(-(t_ref - t_last) / tau)`` with t_ref the last
        microsecond of the window (without a window rule: the last event, whose pixel is 1), from
        the window's events alone, as evio, evutils and eventcv compute it. It is the default since
        a frame then depends on nothing but its window, as everywhere else here.
        ``hots``: t_ref is the window's stop, ``start + (i + 1) dt``, and t_last the latest event of
        this window or any before: HOTS (Lagorce et al. 2017) as tonic's ``ToTimesurface`` samples
        it over the whole sensor. tonic loses the last window; here it is kept.
        ``speed-invariant``: Manderscheid et al. 2019 ("Speed invariant time surface for learning to
        detect corner points with event-based cameras", algorithm 1). An event lowers by one all
        cells of its polarity within ``radius`` that are at least as large as its own, not below 0,
        then its own becomes ``(2 r + 1)^2``. Memory is kept from window to window; times do not
        matter. dv-processing merges polarities, spares equal cells, has radius 4 and leaves out the
        last row and column of patches away from the border.
    decay : {"exp", "linear"}
        For ``sae``: ``linear`` is ``max(0, 1 - age / tau)``.
    radius : int, pixels
        r of ``speed-invariant``; default 4.
    **options
        A window rule, see `eventkit.slicing.BinRule`, and ``out``, ``sort``, ``outside``,
        ``ledger``, see `eventkit.representations.base.CallOptions`.

    Returns
    -------
    (T, 2, H, W) float32
        In [0, 1], channel 0 is OFF, channel 1 is ON; 0 where no event was seen, and for exp where
        the age is beyond 87.3 tau. Without a window rule (2, H, W). Within 2e-7 of the formula.
        ``speed-invariant``: uint8 up to radius 7, uint16 above.

    Notes
    -----
    Ages are whole microseconds, exact for spans below 2^63 us.

    Examples
    --------
    >>> ev = Events(x=[0, 1], y=[0, 0], t=[0, 50_000], p=[1, 1])
    >>> time_surface(ev, sensor_size=(2, 1), tau_us=50_000)[1].round(3).tolist()
    [[0.368..., 1.0]]
    >>> time_surface(ev, sensor_size=(2, 1), tau_us=50_000, bins=2)[1, 1].tolist()
    [[0.0, 1.0]]
    """
    check_choice("convention", convention, SURFACE_CONVENTIONS)
    given = {"tau_us": tau_us, "decay": decay, "radius": radius}
    settings: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    allowed = {"sae": ("tau_us", "decay"), "hots": ("tau_us",), "speed-invariant": ("radius",)}
    for setting in settings:
        if setting not in allowed[convention]:
            listed = " and ".join(allowed[convention])
            msg = f"{setting} does not go with convention {convention!r}; it takes {listed}"
            raise SettingsError(msg)
    representation = _CLASSES[convention](**settings)
    return run(representation, events, sensor_size=sensor_size, **options).result


_CLASSES: dict[str, type[ActiveEvents] | type[HotsSurface] | type[SpeedInvariant]] = {
    "sae": ActiveEvents,
    "hots": HotsSurface,
    "speed-invariant": SpeedInvariant,
}
