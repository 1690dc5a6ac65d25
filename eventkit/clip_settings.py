"""How a recording becomes clips: the settings, and the form of what they make.

Everything that decides the bytes of a clip is here, as plain values, so that a plan can be compared
with another and hashed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from eventkit.adaptive import Bisection
from eventkit.align import EventWindow
from eventkit.clip_windows import parse_bisection, spec_of_bisection
from eventkit.errors import SettingsError
from eventkit.filters import parse as parse_filter
from eventkit.filters import spec_of as spec_of_filter
from eventkit.homography import check_homography
from eventkit.preprocess import Preprocessing
from eventkit.representations import Representation, parse, spec_of
from eventkit.representations.clip import own_windows
from eventkit.representations.counts import Counts
from eventkit.representations.registry import representation_class

DEFAULT_BINS = 8
MAX_CLIP_BINS = 4096
_OF_SPEC = cast("int", None)
_OF_SPEC_TEXT = cast("str", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSettings:
    """How a recording becomes clips.

    Parameters
    ----------
    bins : int, optional
        Windows a clip, T; default those of the representation's spec, or 8.
    representation : str
        A name of `eventkit.representations.names` or a spec ``name,setting=value,...``; kept as
        the full spec.
    dtype : {"u1", "u2", "u4", "f4"}, optional
        Of counts, default u1; cells stop at the largest value and the clipped events are counted.
        Kept as the type that is stored.
    windows : {"time", "rgb", "adaptive,setting=value,..."}
        See `eventkit.align`; ``adaptive`` cuts where the scene changes, with the settings of
        `eventkit.adaptive.Bisection`, and is kept as the full spec.
    event_window : {"interval", "exposure"}
    clip_us : int, microseconds, optional
        Cut long recordings; default one file, one clip.
    diffs : bool
        Also make frame differences of events and RGB.
    rgb_offset_us : int, microseconds
        Added to the times of the RGB side.
    crop, filters, downsample, size, homography
        What happens before clips are cut; see `eventkit.preprocess.Preprocessing`.
    raw_events : bool
        Keep the events of each clip beside its frames.

    Raises
    ------
    SettingsError
        If ``bins`` or ``dtype`` and the spec contradict each other, or a value cannot be.

    Examples
    --------
    >>> settings = ClipSettings(representation="voxel:zhu,bins=5")
    >>> settings.bins, settings.dtype, settings.representation
    (5, 'f4', 'voxel:zhu,bins=5,normalize=none')
    """

    bins: int = _OF_SPEC
    representation: str = "counts:eventkit"
    dtype: str = _OF_SPEC_TEXT
    windows: str = "time"
    event_window: EventWindow = "interval"
    clip_us: int | None = None
    diffs: bool = True
    rgb_offset_us: int = 0
    crop: tuple[int, int, int, int] | None = None
    filters: tuple[str, ...] = ()
    downsample: int = 1
    size: tuple[int, int] | None = None
    homography: tuple[float, ...] | None = None
    raw_events: bool = False

    def __post_init__(self) -> None:
        if not _is_adaptive(self.windows):
            _one_of("windows", self.windows, ("time", "rgb", "adaptive,setting=value,..."))
        _one_of("event_window", self.event_window, ("interval", "exposure"))
        self._settle_representation()
        if self.bisection is not None:
            object.__setattr__(self, "windows", spec_of_bisection(self.bisection))
        if self.clip_us is not None and self.clip_us < self.bins:
            msg = f"expected clip_us of at least one microsecond a bin, got {self.clip_us}"
            raise SettingsError(msg)
        if self.event_window == "exposure" and self.windows != "rgb":
            msg = "event_window 'exposure' goes with windows 'rgb'"
            raise SettingsError(msg)
        specs = tuple(spec_of_filter(parse_filter(spec)) for spec in self.filters)
        object.__setattr__(self, "filters", specs)
        if self.homography is not None:
            numbers = tuple(check_homography(self.homography).ravel().tolist())
            object.__setattr__(self, "homography", numbers)
        _ = self.preprocessing.steps  # for its checks

    @property
    def bisection(self) -> Bisection | None:
        """What cuts adaptive windows; None where they are cut otherwise."""
        if not _is_adaptive(self.windows):
            return None
        return parse_bisection(self.windows, windows=self.bins)

    @property
    def preprocessing(self) -> Preprocessing:
        """What happens to a recording before its clips are cut."""
        return Preprocessing(
            crop=self.crop,
            filters=self.filters,
            downsample=self.downsample,
            size=self.size,
            homography=self.homography,
        )

    def _settle_representation(self) -> None:
        """Bring ``bins``, ``dtype`` and the spec to what they are together."""
        bins, dtype = cast("int | None", self.bins), cast("str | None", self.dtype)
        check_bins(DEFAULT_BINS if bins is None else bins)
        kind = representation_class(self.representation.split(",")[0].strip())
        if kind.stack and self.windows != "time":
            msg = (
                f"{kind.name} has equal time bins of its own: windows "
                f"{self.windows.split(',')[0]!r} goes with counts and other frames of one window"
            )
            raise SettingsError(msg)
        if _is_adaptive(self.windows) and kind.windows is not Representation.windows:
            msg = f"{kind.name} has edges of its own: windows 'adaptive' goes with counts:eventkit"
            raise SettingsError(msg)
        defaults: dict[str, Any] = {}
        if kind.stack:
            defaults["bins"] = DEFAULT_BINS if bins is None else bins
        if issubclass(kind, Counts) or dtype is not None:
            defaults["dtype"] = "u1" if dtype is None else dtype
        made = parse(self.representation, **defaults)
        shape, stored = stored_form(made, bins=DEFAULT_BINS if bins is None else bins)
        if bins is not None and bins not in (shape[0], made.settings.get("bins")):
            _contradiction("bins", bins, made, shape[0])
        if dtype is not None and dtype != stored.str[1:]:
            _contradiction("dtype", dtype, made, stored.str[1:])
        check_bins(shape[0])
        own_windows(made, start=0, stop=1, bins=shape[0])
        for name, value in (
            ("representation", spec_of(made)),
            ("bins", shape[0]),
            ("dtype", stored.str[1:]),
        ):
            object.__setattr__(self, name, value)

    def make_representation(self) -> Representation:
        """Return the representation of the spec."""
        return parse(self.representation)

    def as_dict(self) -> dict[str, Any]:
        """Return plain types, for plans and attributes; with the ``mass`` that frames keep."""
        return {**asdict(self), "mass": self.make_representation().mass}


def stored_form(
    representation: Representation, *, bins: int, sensor_size: tuple[int, int] = (346, 260)
) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape (T, C, H, W) and dtype of one clip in the store; nothing is computed.

    Parameters
    ----------
    representation : Representation
    bins : int
        Windows a clip; a stack has bins of its own.
    sensor_size : (W, H)

    Examples
    --------
    >>> stored_form(parse("voxel:zhu,bins=3"), bins=8, sensor_size=(4, 2))
    ((3, 1, 2, 4), dtype('float32'))
    """
    windows = 1 if representation.stack else bins
    # One value seen from everywhere: the shape costs no memory.
    value = np.zeros((), representation.frame_dtype)
    frames = np.broadcast_to(value, (windows, *representation.frame_shape(sensor_size)))
    stored: NDArray[Any] = representation.as_stored(frames)
    return stored.shape, stored.dtype


def check_bins(bins: int) -> None:
    """Raise `SettingsError` unless a clip can have so many windows."""
    if not 1 <= bins <= MAX_CLIP_BINS:
        msg = f"expected bins within 1..{MAX_CLIP_BINS}, got {bins}"
        raise SettingsError(msg)


def _contradiction(name: str, given: Any, made: Representation, own: Any) -> None:
    msg = f"expected {name} {own}, which is that of {spec_of(made)}, got {given}; leave one out"
    raise SettingsError(msg)


def _is_adaptive(windows: str) -> bool:
    return windows.split(",")[0].strip() == "adaptive"


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        msg = f"expected {name} among {', '.join(known)}, got {value!r}"
        raise SettingsError(msg)
