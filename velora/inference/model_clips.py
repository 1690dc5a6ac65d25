"""Clips of recordings and of arrays, as the loader of training decodes them from shards.

What is made here gets the logits that the same clip gets from a shard.

    T frames, U distinct images, C channels, H, W
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.clip_settings import ClipSettings
from eventkit.clips import Clip as CutClip
from eventkit.clips import event_difference
from eventkit.differences import frame_difference
from eventkit.errors import SettingsError
from velora.data import Clip, DataSpec
from velora.data.clips import compact, spread
from velora.data.spec import event_input
from velora.inputs import Content, EventInput
from velora.settings import DataSettings


@dataclass(frozen=True, slots=True)
class ClipMaker:
    """Makes clips for a model.

    Parameters
    ----------
    spec : DataSpec
        What the model was trained on.
    settings : DataSettings
        What it sees of a clip.
    """

    spec: DataSpec
    settings: DataSettings

    @property
    def event_input(self) -> EventInput:
        """What paints the event frames."""
        return event_input(self.spec, self.settings)

    def from_recording(self, clip: CutClip) -> Clip:
        """Take a clip that `eventkit.clip_recording` made; a picture that is shown twice once."""
        events = clip.events if clip.has_events else None
        if not clip.has_rgb:
            return self._make(None, np.full(self.spec.bins, -1), events)
        _, rows, index = np.unique(clip.rgb_index, return_index=True, return_inverse=True)
        return self._make(clip.rgb[rows], index, events)

    def from_arrays(self, rgb: NDArray[np.uint8] | None, events: NDArray[Any] | None) -> Clip:
        """Take (T or 1, H, W, C) pictures and (T, C, H, W) event frames, either or both.

        Raises
        ------
        SettingsError
            Says which shape or type was expected and what came.
        """
        bins = self.spec.bins
        if rgb is not None:
            check_pictures(rgb, bins=bins)
        if events is not None:
            check_events(events, bins=bins, content=self.event_input.content)
            events = events.astype(events.dtype.newbyteorder("="), copy=False)
        index = np.arange(bins) if rgb is None else np.arange(bins) % len(rgb)
        return self._make(rgb, index, events)

    def _make(
        self,
        rgb: NDArray[np.uint8] | None,
        rgb_index: NDArray[np.int64],
        events: NDArray[Any] | None,
    ) -> Clip:
        bins, frames = self.spec.bins, self.settings.frames
        kept = np.arange(bins) if frames is None else spread(frames, bins)
        pictures, index = np.zeros((0, 1, 1, 1), np.uint8), np.full(len(kept), -1)
        if rgb is not None:
            used, index = np.unique(rgb_index[kept], return_inverse=True)
            pictures = rgb[used]
        channels = self.event_input.content.channels
        nothing = np.zeros((bins, channels, 1, 1), np.uint8)
        differences: dict[str, NDArray[Any]] = {}
        if self.settings.diff == "stored":
            # As in shards, a sense that is not there has differences of zero.
            shown = np.zeros((bins, 1, 1, 1), np.uint8) if rgb is None else rgb[rgb_index]
            differences["diff_rgb"] = frame_difference(shown)
            of_events = event_difference(nothing if events is None else events)
            differences["diff_events"] = compact(of_events)
        return Clip(
            key="",
            label=0,
            rgb=pictures,
            rgb_index=index.astype(np.int64),
            events=nothing[:0] if events is None else compact(events[kept]),
            **differences,
        )


def check_pictures(rgb: NDArray[np.uint8], *, bins: int) -> None:
    """Raise `SettingsError` unless these are (bins or 1, H, W, 3 or 1) pictures of uint8."""
    _check_is_array("rgb", rgb)
    shape = rgb.shape
    if len(shape) != 4 or shape[0] not in (1, bins) or shape[3] not in (1, 3):
        msg = f"expected rgb ({bins} or 1, H, W, 3 or 1), got {shape}; channels come last"
        raise SettingsError(msg)
    _check_has_pixels("rgb", rgb)
    if rgb.dtype != np.uint8:
        msg = f"expected rgb of uint8, 0 to 255, got {rgb.dtype}; scale and round them"
        raise SettingsError(msg)


def check_events(events: NDArray[Any], *, bins: int, content: Content) -> None:
    """Raise `SettingsError` unless these are event frames of a representation, in numbers."""
    _check_is_array("events", events)
    if events.ndim != 4 or events.shape[:2] != (bins, content.channels):
        msg = (
            f"expected events ({bins}, {content.channels}, H, W) of {content.representation}, got "
            f"{events.shape}; make them with the representation and the bins of the run"
        )
        raise SettingsError(msg)
    _check_has_pixels("events", events)
    if events.dtype.kind not in "biuf":
        msg = (
            f"expected events of whole or floating-point numbers, got {events.dtype}; give counts "
            "as uint8, other frames as float32"
        )
        raise SettingsError(msg)
    strange = events.size - int(np.isfinite(events).sum())
    if strange:
        msg = (
            f"expected finite events, got NaN or infinity in {strange} of {events.size} values; a "
            f"pixel without events is {content.none:g} in {content.representation}"
        )
        raise SettingsError(msg)
    negative = int((events < 0).sum()) if content.kind == "counts" else 0
    if negative:
        msg = (
            f"expected numbers of events, 0 or more, got less in {negative} of {events.size} "
            f"values; {content.representation} counts OFF and ON events apart"
        )
        raise SettingsError(msg)


def _check_is_array(name: str, array: object) -> None:
    if not isinstance(array, np.ndarray):
        msg = f"expected {name} as a NumPy array, got {type(array).__name__}; see numpy.asarray"
        raise SettingsError(msg)


def _check_has_pixels(name: str, array: NDArray[Any]) -> None:
    if not array.size:
        msg = f"expected {name} of at least one pixel, got {array.shape}"
        raise SettingsError(msg)


def clip_settings(
    made: Mapping[str, Any], spec: DataSpec, *, stored_differences: bool = False
) -> ClipSettings:
    """Return the settings that make clips as those of a set were made.

    Parameters
    ----------
    made : mapping
        The settings in the manifest of the shards; what it does not say is the default.
    spec : DataSpec
    stored_differences : bool
        Whether the model looks at stored differences.
    """
    known = {field.name for field in fields(ClipSettings)} - {"diffs", "raw_events"}
    given = {key: _with_tuples(value) for key, value in made.items() if key in known}
    given = {"representation": spec.representation, "bins": spec.bins, **given}
    return ClipSettings(**given, diffs=stored_differences)


def _with_tuples(value: Any) -> Any:
    return tuple(_with_tuples(v) for v in value) if isinstance(value, list) else value
