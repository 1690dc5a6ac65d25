"""TORE volumes: the K latest events of each pixel and polarity."""

from __future__ import annotations

import math
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
from eventkit.representations.surfaces import EXP_REACH, time_type
from eventkit.representations.windowed import WindowedAccumulator
from eventkit.slicing import is_whole
from eventkit.windows import Windows

TORE_CONVENTIONS = ("baldwin", "evutils")
MAX_K = 127


@dataclass(frozen=True, kw_only=True)
class ToreVolume(Representation):
    """``surface:tore``: time-ordered recent events (Baldwin et al. 2022).

    Parameters
    ----------
    k : int
        Events kept of each pixel and polarity, 1 to 127.
    convention : {"baldwin", "evutils"}
        ``baldwin``: the paper's ``max(0, log(1 + min(age, max)) - log(1 + min))``, as its code
        has it, with the age at the window's stop and memory of all windows before: 0 is now, and a
        slot without an event holds the largest value, that of ``max_us``.
        ``evutils``: ``exp(-age / tau)`` as evutils' ``tore``, with the age at the window's last
        microsecond (without a window rule: the last event) and no memory: 1 is now, and a slot
        without an event holds 0.
    min_us, max_us : float, microseconds
        For ``baldwin``: ages below and above are not told apart.
    tau_us : float, microseconds
        For ``evutils``.

    Notes
    -----
    Frames are (2 K, H, W) float32; channel ``p K + k`` has the k-th newest event of polarity p,
    OFF first, newest first. The code of the paper has ON first; evutils has (H, W, K, 2) with the
    newest last. Within 2e-6 of the formula for ``baldwin``, 2e-7 for ``evutils``.

    Examples
    --------
    >>> ev = Events(x=[0, 0, 0], y=[0, 0, 0], t=[0, 800, 999], p=[1, 1, 1])
    >>> volume = ToreVolume(k=2)(ev, sensor_size=(1, 1))
    >>> volume.shape, [round(float(value), 2) for value in volume[:, 0, 0]]
    ((4, 1, 1), [10.41, 10.41, 0.0, 0.29])
    """

    name: ClassVar[str] = "surface:tore"
    k: int = 4
    convention: Literal["baldwin", "evutils"] = "baldwin"
    min_us: float = 150.0
    max_us: float = 5_000_000.0
    tau_us: float = 10_000.0

    def __post_init__(self) -> None:
        if not is_whole(self.k, 1, MAX_K):
            msg = f"expected k as a whole number of 1 to {MAX_K}, got {self.k}"
            raise SettingsError(msg)
        check_choice("convention", self.convention, TORE_CONVENTIONS)
        check_positive(min_us=self.min_us, max_us=self.max_us, tau_us=self.tau_us)
        if self.max_us > 1e18 or self.min_us > self.max_us:
            msg = f"expected min_us <= max_us <= 1e18, got {self.min_us} and {self.max_us}"
            raise SettingsError(msg)

    @property
    def frame_dtype(self) -> np.dtype[Any]:
        """Float32."""
        return np.dtype(np.float32)

    def frame_shape(self, sensor_size: tuple[int, int]) -> tuple[int, int, int]:
        """Return (2 K, H, W): OFF from new to old, ON from new to old."""
        return 2 * self.k, sensor_size[1], sensor_size[0]

    def _start(
        self, windows: Windows, sensor_size: tuple[int, int], out: NDArray[Any], outside: Outside
    ) -> Accumulator:
        kind = LogTore if self.convention == "baldwin" else ExpTore
        return kind(self, windows, sensor_size=sensor_size, out=out, outside=outside)


class _Tore(WindowedAccumulator):
    """Rings of times, kept in the frames themselves while they are int32."""

    def __init__(self, settings: ToreVolume, windows: Windows, **keywords: Any) -> None:
        super().__init__(windows, **keywords)
        self._settings = settings
        width, height = self.sensor_size
        self._shape = (2, settings.k, width * height)

    def _rings(self, k: int, kind: np.dtype[Any]) -> NDArray[Any]:
        """Return times (2, K, H*W) for window k: its frame, or where that is too narrow a table."""
        if kind == np.int32:
            shared: NDArray[Any] = self.out[k].view(kind).reshape(self._shape)
            return shared
        return np.empty(self._shape, kind)

    def _slots(self) -> NDArray[np.uint8]:
        return np.zeros(self._shape[0] * self._shape[2], np.uint8)

    def _push(
        self, events: Events, origin: int, slot: NDArray[np.uint8], times: NDArray[Any]
    ) -> int:
        from eventkit.kernels.tore import push

        (width, height), depth = self.sensor_size, self._settings.k
        flat = times.reshape(-1)
        x, y, t, p = events.x, events.y, events.t, events.p
        return int(push(x, y, t, p, width, height, origin, depth, slot, flat))


class LogTore(_Tore):
    """The published volume: one state for all windows, handed on from frame to frame."""

    memory: ClassVar[bool] = True

    def __init__(self, settings: ToreVolume, windows: Windows, **keywords: Any) -> None:
        super().__init__(settings, windows, **keywords)
        if not len(windows):
            return
        self._origin = int(windows.spans[0, 0])
        self._times = self._rings(0, time_type(int(windows.spans[-1, 1]) - self._origin))
        self._slot = self._slots()

    def _add_to(self, k: int, events: Events) -> int:
        return self._push(events, self._origin, self._slot, self._times)

    def _close(self, k: int) -> None:
        from eventkit.kernels.tore import close_log

        kind, settings = self._times.dtype, self._settings
        carry = self._times
        if kind == np.int32:
            carry = self._rings(k + 1, kind) if k + 1 < len(self.windows) else carry[:, :, :0]
        close_log(
            self._times,
            self._slot,
            kind.type(int(self.windows.spans[k, 1]) - self._origin),
            float(settings.min_us),
            float(settings.max_us),
            np.ascontiguousarray(carry),
            self.out[k].reshape(self._shape),
        )
        self._times = carry
        self._slot.fill(settings.k)


class ExpTore(_Tore):
    """The volume of evutils: a state for each open window."""

    def __init__(self, settings: ToreVolume, windows: Windows, **keywords: Any) -> None:
        super().__init__(settings, windows, **keywords)
        self._open: dict[int, tuple[NDArray[Any], NDArray[np.uint8]]] = {}

    def _add_to(self, k: int, events: Events) -> int:
        start, stop = (int(v) for v in self.windows.spans[k])
        if k not in self._open:
            self._open[k] = self._rings(k, time_type(stop - start)), self._slots()
        times, slot = self._open[k]
        return self._push(events, start, slot, times)

    def _close(self, k: int) -> None:
        from eventkit.kernels.tore import close_exp

        if k not in self._open:
            self.out[k] = 0
            return
        times, slot = self._open.pop(k)
        start, stop = (int(v) for v in self.windows.spans[k])
        now, tau, kind = stop - 1 - start, self._settings.tau_us, times.dtype.type
        floor = max(0, now - int(EXP_REACH * tau)) if EXP_REACH * tau < now else 0
        scale = np.float32(min(1 / (math.log(2) * tau), 1e18))
        close_exp(times, slot, kind(now), kind(floor), scale, self.out[k].reshape(self._shape))
