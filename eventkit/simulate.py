"""A simulated event camera: pictures in, events and RGB exposures out. For demos and tests.

The event side is the contrast-threshold model of ESIM (Rebecq, Gehrig, Scaramuzza, "ESIM: an Open
Event Camera Simulator", CoRL 2018) with the threshold mismatch, dead time and background noise
of v2e (Hu, Liu, Delbruck, "v2e: From Video Frames to Realistic DVS Events", CVPR Workshops 2021,
arXiv 2006.07722). Log intensity is taken to be linear between rendered frames. Left out, since
nothing here needs it: the finite bandwidth of the photoreceptor, leak events, the arbiter.

The RGB side averages rendered frames over each exposure, which is what blurs motion.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import SettingsError
from eventkit.events import Events
from eventkit.motion import (
    check_range,
    check_size,
    intensity,
    saccades,
    scaled_to_cover,
    views,
)

Degradation = Literal["good", "rgb", "events"]
DEGRADATIONS: tuple[Degradation, ...] = get_args(Degradation)

_Columns = tuple[NDArray[np.uint16], NDArray[np.uint16], NDArray[np.int64], NDArray[np.int8]]
_PIECE = 512
"""Frames rendered at once."""
_MIN_THRESHOLD = 0.01
_FULL_WELL = 4000.0
"""Electrons at full brightness; sets the shot noise of the RGB side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationSettings:
    """The two simulated cameras and the movement before them.

    Parameters
    ----------
    size : (W, H)
        Pixels of both cameras.
    duration_us : int, microseconds
    render_fps : float
        Pictures rendered per second; events are interpolated between them.
    travel : float
        Radius of the movement as a share of the shorter side of the view.
    threshold_on, threshold_off : float
        Change of log intensity that makes an event of either polarity.
    mismatch : float
        Standard deviation of both thresholds from pixel to pixel, in log intensity.
    refractory_us : int, microseconds
        Dead time of a pixel after an event; a crossing within it is lost.
    noise_hz : float
        Background events per pixel and second, of random polarity.
    keep : float
        Probability with which a true event (not noise) is kept; below 1 the side is starved.
    black_level : float
        Added to the intensity, where white is 1, before the logarithm; bounds the contrast.
    fps : float
        RGB exposures per second.
    exposure : float
        Share of the time between two exposures for which the shutter is open.
    gain : float
        Brightness of the RGB side; below 1 it is dark, and shot noise grows in proportion.
    read_noise : float
        Standard deviation of the noise added to an RGB pixel, where white is 1.
    defocus : float
        Standard deviation of the RGB side's blur, as a share of the shorter side.
    """

    size: tuple[int, int] = (64, 64)
    duration_us: int = 300_000
    render_fps: float = 1000.0
    travel: float = 0.08
    threshold_on: float = 0.2
    threshold_off: float = 0.2
    mismatch: float = 0.03
    refractory_us: int = 500
    noise_hz: float = 0.1
    keep: float = 1.0
    black_level: float = 0.05
    fps: float = 30.0
    exposure: float = 0.5
    gain: float = 1.0
    read_noise: float = 0.01
    defocus: float = 0.0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("duration_us", 1, 2**53),
            ("render_fps", 1e-3, 1e6),
            ("travel", 0, 1),
            ("threshold_on", _MIN_THRESHOLD, 100),
            ("threshold_off", _MIN_THRESHOLD, 100),
            ("mismatch", 0, 10),
            ("refractory_us", 0, 2**53),
            ("noise_hz", 0, 1e6),
            ("keep", 0, 1),
            ("black_level", 1e-9, 1),
            ("fps", 1e-3, 1e6),
            ("exposure", 1e-6, 1),
            ("gain", 0, 1e3),
            ("read_noise", 0, 1e3),
            ("defocus", 0, 10),
        ):
            check_range(name, getattr(self, name), low, high)
        check_size(self.size)
        if self.duration_us * self.fps < self.exposure * 1e6:
            msg = (
                f"expected room for one RGB exposure, got {self.duration_us} us at "
                f"{self.fps:g} frames a second; make duration_us or fps larger"
            )
            raise SettingsError(msg)


@dataclass(frozen=True, slots=True)
class SimulatedClip:
    """What the two cameras saw, on one clock.

    Parameters
    ----------
    events : Events
    images : (F, H, W, 3) uint8
    start_us, stop_us : (F,) int64, microseconds
        Exposure ``[start, stop)`` of each image.
    sensor_size : (W, H)
    """

    events: Events
    images: NDArray[np.uint8]
    start_us: NDArray[np.int64]
    stop_us: NDArray[np.int64]
    sensor_size: tuple[int, int]


def simulate_events(
    frames: NDArray[Any],
    *,
    t_us: NDArray[np.int64],
    rng: np.random.Generator,
    threshold_on: float = 0.2,
    threshold_off: float = 0.2,
    mismatch: float = 0.03,
    refractory_us: int = 500,
    noise_hz: float = 0.1,
    keep: float = 1.0,
    black_level: float = 0.05,
) -> Events:
    """Return the events a camera gives when it sees these frames.

    Parameters
    ----------
    frames : (N, H, W) uint8, or float in [0, 1]
        Linear intensity; uint8 is divided by 255.
    t_us : (N,) integers, microseconds
        Time of each frame, strictly increasing.
    rng : Generator
        Draws mismatch, noise and starving; the same state gives the same events.
    threshold_on, threshold_off, mismatch, refractory_us, noise_hz, keep, black_level
        As in `SimulationSettings`.

    Returns
    -------
    Events
        Sorted by time, stable; times lie in ``[t_us[0], t_us[-1]]``. Without change there are no
        events but noise; a single frame gives none.

    Raises
    ------
    SettingsError
        If shapes, times, intensities or settings cannot be.

    Examples
    --------
    >>> frames = np.array([0.1, 0.1, 0.9])[:, None, None] * np.ones((3, 1, 2))
    >>> events = simulate_events(
    ...     frames, t_us=np.array([0, 10, 20]), rng=np.random.default_rng(0),
    ...     threshold_on=0.8, mismatch=0.0, refractory_us=0, noise_hz=0.0,
    ... )
    >>> events.t.tolist(), events.x.tolist(), events.p.tolist()
    ([14, 14, 19, 19], [0, 1, 0, 1], [1, 1, 1, 1])
    """
    frames = np.asarray(frames)
    if frames.ndim != 3:
        msg = f"expected frames of shape (N, H, W), got {frames.shape}"
        raise SettingsError(msg)
    settings = SimulationSettings(
        size=(frames.shape[2], frames.shape[1]),
        threshold_on=threshold_on,
        threshold_off=threshold_off,
        mismatch=mismatch,
        refractory_us=refractory_us,
        noise_hz=noise_hz,
        keep=keep,
        black_level=black_level,
    )
    return EventCamera(settings, rng=rng).observe(frames, t_us=t_us)


class EventCamera:
    """An event camera that can be shown a film piece by piece.

    Parameters
    ----------
    settings : SimulationSettings
        Those of the event side are used.
    rng : Generator
    """

    def __init__(self, settings: SimulationSettings, *, rng: np.random.Generator) -> None:
        width, height = settings.size
        self._settings = settings
        self._rng = rng
        self._theta_on, self._theta_off = (
            np.maximum(rng.normal(theta, settings.mismatch, (height, width)), _MIN_THRESHOLD)
            for theta in (settings.threshold_on, settings.threshold_off)
        )
        self._reference = np.zeros((height, width))
        self._last = np.zeros((height, width), np.int64)
        self._seen: tuple[NDArray[np.float64], NDArray[np.int64]] | None = None

    def observe(self, frames: NDArray[Any], *, t_us: NDArray[np.int64]) -> Events:
        """Return the events between the last frame seen and the last of these.

        Parameters
        ----------
        frames : (N, H, W) uint8, or float in [0, 1]
        t_us : (N,) integers, microseconds
            Strictly increasing, and after everything shown before.
        """
        light = intensity(frames)
        if light.shape[1:] != self._reference.shape:
            width, height = self._settings.size
            msg = f"expected frames of {width}x{height} pixels, got shape {frames.shape}"
            raise SettingsError(msg)
        log = np.log(light.astype(np.float64) + self._settings.black_level)
        times = _frame_times(t_us, len(log))
        if self._seen is None and len(log):
            self._reference[...] = log[0]
            self._last[...] = times[0] - self._settings.refractory_us
        elif self._seen is not None:
            log = np.concatenate([self._seen[0], log])
            times = np.concatenate([self._seen[1], times])
        if (times[1:] <= times[:-1]).any():
            msg = "expected frame times that increase from frame to frame"
            raise SettingsError(msg)
        if not len(log):
            return Events.empty()
        self._seen = (log[-1:], times[-1:])
        signal = self._crossings(log, times)
        if self._settings.keep < 1:
            kept = self._rng.random(signal[0].size) < self._settings.keep
            signal = (signal[0][kept], signal[1][kept], signal[2][kept], signal[3][kept])
        noise = self._noise(int(times[0]), int(times[-1]))
        t = np.concatenate([signal[2], noise[2]])
        order = np.argsort(t, kind="stable")
        return Events.from_checked(
            np.concatenate([signal[0], noise[0]])[order],
            np.concatenate([signal[1], noise[1]])[order],
            t[order],
            np.concatenate([signal[3], noise[3]])[order],
        )

    def _crossings(self, log: NDArray[np.float64], t_us: NDArray[np.int64]) -> _Columns:
        # Numba loads with the first kernel, not with this module.
        from eventkit.kernels.simulate import cross_thresholds

        # Between two events of a pixel its signal travels the smaller threshold at least; the
        # first may be near, and one more makes room for rounding.
        travelled = np.abs(np.diff(log, axis=0)).sum(axis=0)
        smallest = np.minimum(self._theta_on, self._theta_off)
        room = int((travelled / smallest + 2).astype(np.int64).sum())
        x, y = np.empty(room, np.uint16), np.empty(room, np.uint16)
        t, p = np.empty(room, np.int64), np.empty(room, np.int8)
        written = np.zeros(1, np.int64)
        thetas = (self._theta_on, self._theta_off)
        dead_us = np.int64(self._settings.refractory_us)
        state = (self._reference, self._last)
        cross_thresholds(log, t_us, *thetas, dead_us, *state, x, y, t, p, written)
        n = int(written[0])
        assert n <= room
        return x[:n], y[:n], t[:n], p[:n]

    def _noise(self, start_us: int, stop_us: int) -> _Columns:
        width, height = self._settings.size
        expected = self._settings.noise_hz * 1e-6 * (stop_us - start_us) * width * height
        n = int(self._rng.poisson(expected))
        return (
            self._rng.integers(width, size=n).astype(np.uint16),
            self._rng.integers(height, size=n).astype(np.uint16),
            self._rng.integers(start_us, stop_us, n, endpoint=True),
            self._rng.integers(2, size=n).astype(np.int8),
        )


def simulate_clip(
    image: NDArray[Any], *, settings: SimulationSettings, rng: np.random.Generator
) -> SimulatedClip:
    """Return what both cameras see when a still image moves before them.

    Parameters
    ----------
    image : (h, w) or (h, w, 3), uint8, or float in [0, 1]
    settings : SimulationSettings
    rng : Generator

    Raises
    ------
    SettingsError
        If the image has another shape or values outside its range.
    """
    radius = settings.travel * min(settings.size)
    picture, scale = scaled_to_cover(image, size=settings.size, margin=radius)
    t_us, path = saccades(settings.duration_us, fps=settings.render_fps, radius=radius, rng=rng)
    # Rendered piece by piece, so that a long recording does not have to fit in memory.
    pieces = (
        (
            views(picture, path[k : k + _PIECE], scale=scale, size=settings.size),
            t_us[k : k + _PIECE],
        )
        for k in range(0, len(t_us), _PIECE)
    )
    return simulate_film(pieces, settings=settings, rng=rng)


def simulate_film(
    pieces: Iterable[tuple[NDArray[Any], NDArray[np.int64]]],
    *,
    settings: SimulationSettings,
    rng: np.random.Generator,
) -> SimulatedClip:
    """Return what both cameras see when a film is shown to them piece by piece.

    Parameters
    ----------
    pieces : iterable of (frames, t_us)
        ``frames`` (n, H, W) or (n, H, W, 3), uint8 or float in [0, 1], of ``settings.size``;
        ``t_us`` (n,) strictly increasing over all pieces. Only the events and the exposures are
        held in memory.
    settings : SimulationSettings
        ``duration_us``, ``render_fps`` and ``travel`` are not used.
    rng : Generator
    """
    camera = EventCamera(settings, rng=rng)
    shutter = _Shutter(settings, rng)
    parts: list[Events] = []
    for frames, t_us in pieces:
        light = intensity(frames)
        gray = light.mean(axis=-1) if light.ndim == 4 else light
        parts.append(camera.observe(gray, t_us=t_us))
        shutter.observe(light, t_us)
    if not shutter.images:
        msg = "expected a film longer than one RGB exposure; make it longer or fps larger"
        raise SettingsError(msg)
    exposures = np.array(shutter.times, np.int64)
    return SimulatedClip(
        events=Events.concatenate(parts),
        images=np.stack(shutter.images),
        start_us=exposures[:, 0].copy(),
        stop_us=exposures[:, 1].copy(),
        sensor_size=settings.size,
    )


def degraded(
    settings: SimulationSettings, name: Degradation, *, rng: np.random.Generator
) -> SimulationSettings:
    """Return settings under which one sense, or none, is hard to use.

    Parameters
    ----------
    settings : SimulationSettings
    name : {"good", "rgb", "events"}
        ``rgb``: the RGB side is dark and noisy, by the toss of a coin also far out of focus.
        ``events``: few true events are left, in much background noise.
    rng : Generator

    Raises
    ------
    SettingsError
        If the name is not known.
    """
    if name not in DEGRADATIONS:
        msg = f"expected a degradation among {', '.join(DEGRADATIONS)}, got {name!r}"
        raise SettingsError(msg)
    if name == "good":
        return settings
    if name == "events":
        return replace(settings, keep=settings.keep * 0.025, noise_hz=settings.noise_hz + 3.0)
    if rng.random() < 0.5:
        return replace(settings, gain=settings.gain * 0.008, read_noise=0.08)
    # Blur alone keeps the shape for a learner that sharpens; noise above it does not.
    return replace(settings, gain=settings.gain * 0.04, read_noise=0.06, defocus=0.2)


class _Shutter:
    """The RGB camera: averages what it is shown over each exposure."""

    def __init__(self, settings: SimulationSettings, rng: np.random.Generator) -> None:
        self.images: list[NDArray[np.uint8]] = []
        self.times: list[tuple[int, int]] = []
        self._settings = settings
        self._rng = rng
        self._origin: int | None = None
        self._latest: NDArray[np.float32] | None = None
        self._open: list[NDArray[np.float32]] = []

    def observe(self, frames: NDArray[np.float32], t_us: NDArray[np.int64]) -> None:
        """Expose to frames in time order; a frame at the edge belongs to the next exposure."""
        for frame, now in zip(frames, np.asarray(t_us).tolist(), strict=True):
            self._origin = now if self._origin is None else self._origin
            start, stop = self._next_exposure(self._origin)
            while now >= stop:
                # A slow film may show nothing while the shutter is open: its last frame stood.
                seen = self._open or [frame if self._latest is None else self._latest]
                self.images.append(self._develop(np.mean(seen, axis=0, dtype=np.float64)))
                self.times.append((start, stop))
                self._open = []
                start, stop = self._next_exposure(self._origin)
            if now >= start:
                self._open.append(frame)
            self._latest = frame

    def _next_exposure(self, origin: int) -> tuple[int, int]:
        period = 1e6 / self._settings.fps
        start = origin + int(len(self.times) * period)
        return start, start + max(1, int(period * self._settings.exposure))

    def _develop(self, light: NDArray[np.float64]) -> NDArray[np.uint8]:
        setting = self._settings
        if light.ndim == 2:
            light = np.repeat(light[:, :, None], 3, axis=2)
        if setting.defocus:
            sigma = setting.defocus * min(setting.size)
            rows, columns = (_blur_matrix(n, sigma) for n in light.shape[:2])
            light = np.einsum("ih,hwc,jw->ijc", rows, light, columns, optimize=True)
        electrons = self._rng.poisson(light * setting.gain * _FULL_WELL) / _FULL_WELL
        noisy = electrons + self._rng.normal(0, setting.read_noise, light.shape)
        return np.rint(np.clip(noisy, 0, 1) * 255).astype(np.uint8)


def _blur_matrix(n: int, sigma: float) -> NDArray[np.float64]:
    distance = np.subtract.outer(np.arange(n), np.arange(n))
    weights = np.exp(-0.5 * (distance / sigma) ** 2)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _frame_times(t_us: NDArray[np.int64], num_frames: int) -> NDArray[np.int64]:
    times = np.asarray(t_us)
    if times.shape != (num_frames,) or times.dtype.kind not in "iu":
        msg = (
            f"expected {num_frames} integer times, one a frame, "
            f"got shape {times.shape} of {times.dtype}"
        )
        raise SettingsError(msg)
    return times.astype(np.int64)
