"""Every filter by name, specs for the command line, and several filters as one.

A spec is ``name`` or ``name:setting=value:setting=value``, so that several may be listed with
commas: ``hot-pixels,background:within_us=2000:neighbours=4``. A box is written
``crop:box=X/Y/W/H``; ``none`` is no value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar

from eventkit.errors import SettingsError
from eventkit.events import Events
from eventkit.filters.base import Filter, FilterState
from eventkit.filters.geometry import Crop, Downsample, Flip, Transpose
from eventkit.filters.hot import HotPixelMask, HotPixels
from eventkit.filters.noise import Background, Refractory
from eventkit.filters.stream import Polarity, RateLimit
from eventkit.representations.base import Outside

_KINDS: tuple[type[Filter], ...] = (
    Background,
    Refractory,
    HotPixels,
    Crop,
    Flip,
    Transpose,
    Downsample,
    Polarity,
    RateLimit,
)


def names() -> tuple[str, ...]:
    """Return the names of all filters.

    Examples
    --------
    >>> "background" in names()
    True
    """
    return tuple(kind.name for kind in _KINDS)


def make(name: str, **settings: Any) -> Filter:
    """Return a filter by name.

    Raises
    ------
    SettingsError
        If there is no such filter or setting, or one that is needed is missing.

    Examples
    --------
    >>> make("downsample", factor=4).size((346, 260))
    (87, 65)
    """
    kind = next((kind for kind in _KINDS if kind.name == name), None)
    if kind is None:
        msg = f"expected a filter among {', '.join(names())}, got {name!r}"
        raise SettingsError(msg)
    known = {field.name: field.default for field in fields(kind)}
    for setting in settings:
        if setting not in known:
            msg = (
                f"{name} has no setting {setting!r}; its settings are {', '.join(known) or 'none'}"
            )
            raise SettingsError(msg)
    for setting, default in known.items():
        if default is MISSING and setting not in settings:
            msg = f"{name} needs {setting}: {name}:{setting}=..."
            raise SettingsError(msg)
    return kind(**settings)


def parse(spec: str) -> Filter:
    """Read ``name:setting=value:...``.

    Examples
    --------
    >>> parse("background:within_us=500").settings
    {'within_us': 500, 'neighbours': 8}
    >>> parse("crop:box=10/20/64/48").settings
    {'box': (10, 20, 64, 48)}
    """
    name, *parts = [part.strip() for part in spec.split(":")]
    settings: dict[str, Any] = {}
    for part in parts:
        key, equals, text = part.partition("=")
        if not equals or not key or key in settings:
            msg = f"expected name:setting=value, each setting once, got {part!r} in {spec!r}"
            raise SettingsError(msg)
        settings[key] = _value(text)
    return make(name, **settings)


def spec_of(flt: Filter) -> str:
    """Return the spec that `parse` turns into this filter.

    Raises
    ------
    SettingsError
        For a learned mask, which no spec can hold.

    Examples
    --------
    >>> spec_of(parse("crop:box=10/20/64/48"))
    'crop:box=10/20/64/48'
    """
    if isinstance(flt, HotPixelMask):
        msg = "a learned mask has no spec; keep that of HotPixels, or its settings['pixels']"
        raise SettingsError(msg)
    if isinstance(flt, Chain):
        return ",".join(spec_of(part) for part in flt.filters)
    return ":".join([flt.name, *(f"{key}={_text(value)}" for key, value in flt.settings.items())])


@dataclass(frozen=True, kw_only=True)
class Chain(Filter):
    """Several filters, each given what the one before kept; see `chain`.

    Parameters
    ----------
    filters : tuple of Filter
    """

    name: ClassVar[str] = "chain"
    filters: tuple[Filter, ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of each filter, with its name."""
        return {"filters": [{"name": flt.name, **flt.settings} for flt in self.filters]}

    def size(self, sensor_size: tuple[int, int]) -> tuple[int, int]:
        """Return (W, H) after the last filter."""
        size = super().size(sensor_size)
        for flt in self.filters:
            size = flt.size(size)
        return size

    def _start(self, sensor_size: tuple[int, int], outside: Outside) -> FilterState:
        return _ChainState(self, sensor_size, outside)

    def _whole(
        self, events: Events, sensor_size: tuple[int, int], outside: Outside
    ) -> tuple[Events, Counter[str]]:
        drops: Counter[str] = Counter()
        for flt in self.filters:
            events, lost = flt._whole(events, sensor_size, outside)
            drops += lost
            sensor_size, outside = flt.size(sensor_size), "raise"
        return events, drops


class _ChainState(FilterState):
    def __init__(self, flt: Chain, sensor_size: tuple[int, int], outside: Outside) -> None:
        super().__init__("", sensor_size, outside)
        self._states: list[FilterState] = []
        for part in flt.filters:
            self._states.append(part.start(sensor_size, outside=outside))
            sensor_size, outside = part.size(sensor_size), "raise"

    @property
    def drops(self) -> Counter[str]:
        """Events dropped until now, by reason, over all filters."""
        return sum((state.drops for state in self._states), Counter())

    def update(self, events: Events) -> Events:
        """Return what all filters keep of a chunk."""
        return self._apply(events)

    def _apply(self, events: Events) -> Events:
        for state in self._states:
            events = state.update(events)
        return events


def chain(filters: str | Iterable[Filter | str]) -> Chain:
    """Return several filters, or their specs (also listed with commas), as one.

    A chain of none keeps all events.

    Examples
    --------
    >>> both = chain(["refractory:period_us=100", "crop:box=0/0/4/4"])
    >>> state = both.start((7, 5))
    >>> ev = Events(x=[1, 1, 6], y=[1, 1, 1], t=[0, 50, 60], p=[1, 1, 1])
    >>> state.update(ev).t.tolist(), dict(state.drops)
    ([0], {'filtered.refractory': 1, 'filtered.crop': 1})
    """
    parts: Iterable[Any] = filters.split(",") if isinstance(filters, str) else filters
    made = tuple(parse(part) if isinstance(part, str) else part for part in parts)
    for part in made:
        if not isinstance(part, Filter):
            msg = f"expected filters or their specs, got {type(part).__name__}"
            raise SettingsError(msg)
    return Chain(filters=made)


def _value(text: str) -> Any:
    """Read a setting by its look; the filter says whether it is what it needs."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    if "/" in text:
        return tuple(_value(part) for part in text.split("/"))
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return "/".join(str(part) for part in value)
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
