"""Scenes out of stores and shards."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit.align import nearest
from eventkit.clip_settings import ClipSettings
from eventkit.errors import SettingsError
from eventkit.rebin import represent_clip
from eventkit.render.scene import Scene, is_shaded
from eventkit.representations.registry import representation_class
from eventkit.samples import decode_images
from eventkit.shards import ShardSet
from eventkit.slicing import equal_edges
from eventkit.store import Store, StoredClip
from eventkit.windows import windows_of_edges


def scene_of_store(store: Store, index: int, *, settings: ClipSettings | None = None) -> Scene:
    """Read clip ``index`` of a store; times are from the clip's start.

    Parameters
    ----------
    store : Store
    index : int
    settings : ClipSettings, optional
        Frames to make from the clip's events, of a store that has kept them; default those stored.
        Of the pictures, each bin then has the stored one whose window is nearest.
    """
    if not 0 <= index < len(store):
        msg = f"expected --index below {len(store)}, the clips of {store.path}, got {index}"
        raise SettingsError(msg)
    clip = store[index]
    name, number = clip.facts["recording"], clip.facts["clip"]
    label = clip.facts.get("label_name") or "no label"
    title = f"{name} clip {number}, class {label}"
    windows = np.asarray(clip.columns["window_us"])
    rgb = decode_images(clip.encoded) if clip.encoded is not None else clip.rgb
    rgb = rgb if bool(clip.columns["has_rgb"]) else None
    if settings is not None:
        return _made_again(clip, settings, rgb, windows, title)
    return _scene(
        rgb=rgb,
        events=clip.events if bool(clip.columns["has_events"]) else None,
        diff_events=clip.diff_events,
        diff_rgb=clip.diff_rgb,
        windows=windows,
        spec=_spec_in(store, index),
        title=title,
    )


def scene_of_shards(shards: ShardSet, split: str, index: int) -> Scene:
    """Read sample ``index`` of a split; times are from the clip's start."""
    count = shards.num_samples(split)
    if not 0 <= index < count:
        msg = f"expected --index below {count}, the samples of {split}, got {index}"
        raise SettingsError(msg)
    sample = shards.sample(split, index)
    # A missing sense is stored as zeros, and a black row would pass for a dark picture.
    has_rgb, has_events = (bool(sample.meta.get(key, True)) for key in ("has_rgb", "has_events"))
    windows = sample.meta.get("window_us")
    return _scene(
        rgb=decode_images(sample.rgb) if has_rgb else None,
        events=sample.events if has_events else None,
        diff_events=sample.diff_events,
        diff_rgb=sample.diff_rgb,
        windows=None if windows is None else np.array(windows, np.int64),
        spec=str(sample.meta.get("representation", "")),
        title=f"{sample.key}, class {shards.class_names.get(sample.label, 'no label')}",
    )


def _spec_in(store: Store, index: int) -> str:
    """Return the representation that the pack of a clip names."""
    for name in store.names:
        pack = store.pack(name)
        if index < len(pack):
            return str(pack.attributes.get("settings", {}).get("representation", ""))
        index -= len(pack)
    return ""


def _made_again(
    clip: StoredClip,
    settings: ClipSettings,
    rgb: NDArray[Any] | None,
    windows: NDArray[np.int64],
    title: str,
) -> Scene:
    span = int(windows[0, 0]), int(windows[-1, 1])
    representation = settings.make_representation()
    events = represent_clip(
        clip.raw_events,
        span,
        representation,
        sensor_size=tuple(clip.facts["sensor_size"]),
        bins=None if representation.stack else settings.bins,
    )
    bins = windows_of_edges(equal_edges(*span, settings.bins))
    if rgb is not None:
        rgb = rgb[nearest(_middles(windows), _middles(bins))]
    return _scene(
        rgb=rgb,
        events=events,
        diff_events=None,
        diff_rgb=None,
        windows=bins,
        spec=settings.representation,
        title=title,
    )


def _middles(windows: NDArray[np.int64]) -> NDArray[np.int64]:
    middles: NDArray[np.int64] = windows[:, 0] + (windows[:, 1] - windows[:, 0]) // 2
    return middles


def _scene(
    *,
    rgb: NDArray[Any] | None,
    events: NDArray[Any] | None,
    diff_events: NDArray[Any] | None,
    diff_rgb: NDArray[Any] | None,
    windows: NDArray[np.int64] | None,
    spec: str,
    title: str,
) -> Scene:
    if rgb is None and events is None:
        msg = f"{title}: expected events or RGB, the clip has neither; choose another --index"
        raise SettingsError(msg)
    return Scene(
        rgb=rgb,
        events=events,
        diff_events=diff_events if events is not None else None,
        diff_rgb=diff_rgb if rgb is not None else None,
        windows_us=None if windows is None else windows - windows[0, 0],
        stacked=_is_stack(spec),
        shaded=is_shaded(spec),
        title=", ".join(part for part in (title, spec) if part),
    )


def _is_stack(spec: str) -> bool:
    name = spec.split(",")[0].strip()
    try:
        return representation_class(name).stack
    except (SettingsError, ImportError):
        return False  # written by a package that is not installed here
