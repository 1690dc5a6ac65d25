"""What a set of shards holds, and whether a model can learn from it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from msgspec import Struct

from eventkit.clip_settings import ClipSettings
from eventkit.errors import DamageError, SettingsError
from eventkit.shards import ShardSet
from velora.data.class_match import places
from velora.inputs import EventInput, content_of, resolve
from velora.settings import DataSettings

_HOW_TO_LABEL = (
    "put the recordings into one folder per class, or give `eventkit convert` a list file with "
    "lines `<class>/<recording> <frames> <label>`, then convert and shard again"
)
# Settings of `eventkit convert` that decide what a clip shows, with their defaults. Representation
# and bins are compared by themselves, decoding makes all types of counts the same, and differences
# and raw events are members of their own. Rows that files count from below are turned (``flip_y``).
_OF_CLIPS: dict[str, Any] = {
    field.name: field.default
    for field in fields(ClipSettings)
    if field.name not in ("representation", "bins", "dtype", "diffs", "raw_events")
} | {"flip_y": False}


class DataSpec(Struct, frozen=True, kw_only=True):
    """What a model must know of the shards it was trained on."""

    plan_id: str
    representation: str
    bins: int
    #: Class id -> name; the order of the ids is the order of the logits.
    classes: dict[int, str]
    #: The settings of `eventkit convert` that made the clips, as far as the manifest says them.
    clip_settings: dict[str, Any] = {}
    #: Median length of a clip in microseconds; 0 where the samples do not say.
    clip_us: int = 0

    @property
    def class_ids(self) -> list[int]:
        """The class ids in the order of the logits."""
        return sorted(self.classes)


def describe(shards: ShardSet, *, splits: Sequence[str] | None = None) -> DataSpec:
    """Read what a shard set holds; refuse one that no model here can learn from.

    Parameters
    ----------
    splits : sequence of str, optional
        Those that will be used, all by default; every sample of them must have a label.

    Raises
    ------
    SettingsError
        Unknown representation, missing labels, no samples; says the cure.
    """
    representation = str(shards.manifest.get("settings", {}).get("representation", ""))
    try:
        content = content_of(representation)
        # Whether anything can paint it; what does is a setting of the run.
        resolve("auto", representation)
    except SettingsError as error:
        found = representation or "nothing known"
        msg = f"{shards.path} holds events as {found!r}: {error}"
        raise SettingsError(msg) from error
    filled = [split for split in shards.splits if shards.num_samples(split)]
    if not filled:
        msg = f"{shards.path} holds no samples; look at what `eventkit convert` quarantined"
        raise SettingsError(msg)
    for split in filled if splits is None else splits:
        check_labels(shards, split)
    events = shards.sample(filled[0], 0).events
    if events.ndim != 4 or events.shape[1] != content.channels:
        msg = (
            f"{shards.path}: expected frames of {content.channels} channels of {representation}, "
            f"got {events.shape}; run `eventkit verify` on the shards"
        )
        raise DamageError(msg)
    return DataSpec(
        plan_id=str(shards.manifest["plan_id"]),
        representation=_as_drawn(representation),
        bins=int(events.shape[0]),
        classes=dict(sorted(shards.class_names.items())),
        clip_settings=dict(shards.manifest.get("settings", {})),
        clip_us=_usual_us(shards, filled[0]),
    )


def _usual_us(shards: ShardSet, split: str) -> int:
    """Return the median length of up to nine clips of a split, from their windows."""
    lengths = []
    for i in sorted({k * shards.num_samples(split) // 9 for k in range(9)}):
        meta = json.loads(shards.members(split, i, suffixes=["json"])["json"])
        windows = meta.get("window_us")
        if windows:
            lengths.append(int(windows[-1][1]) - int(windows[0][0]))
    return sorted(lengths)[len(lengths) // 2] if lengths else 0


def event_input(spec: DataSpec, settings: DataSettings) -> EventInput:
    """Return what paints the event frames of a set.

    Raises
    ------
    SettingsError
        If the one that the settings name does not paint what the set holds.
    """
    return resolve(settings.event_input, spec.representation)


def check_view(shards: ShardSet, split: str, *, spec: DataSpec, settings: DataSettings) -> None:
    """Refuse frames that are not there, and stored differences that are not those of the pictures.

    Raises
    ------
    SettingsError
    """
    if settings.frames is not None and settings.frames > spec.bins:
        msg = (
            f"data.frames: expected at most the {spec.bins} bins of {shards.path}, got "
            f"{settings.frames}; convert with --bins {settings.frames}"
        )
        raise SettingsError(msg)
    if settings.diff != "stored":
        return
    painter = event_input(spec, settings)
    if not painter.linear:
        msg = (
            f"data.diff = 'stored' needs an event input that is linear in the frames, and "
            f"{painter.name!r} is not: set data.event_input = 'counts', or data.diff = 'device'"
        )
        raise SettingsError(msg)
    if settings.frames not in (None, spec.bins):
        msg = (
            f"data.diff = 'stored' has the differences of all {spec.bins} frames, not of "
            f"{settings.frames}: leave data.frames out, or set data.diff = 'device'"
        )
        raise SettingsError(msg)
    present = {field.partition(".")[0] for field in shards.index(split).fields}
    missing = sorted({"diff_events", "diff_rgb"} - present)
    if missing:
        msg = (
            f"data.diff = 'stored' needs the members diff_events and diff_rgb, and {shards.path} "
            f"lacks {' and '.join(missing)}: make the shards with `eventkit shard --with-diffs`, "
            "or set data.diff = 'device'"
        )
        raise SettingsError(msg)


def _as_drawn(representation: str) -> str:
    """Return the spec without the type of counts: pictures only ask whether a pixel fired."""
    name, *settings = representation.split(",")
    kept = [s for s in settings if not (name.startswith("counts") and s.startswith("dtype="))]
    return ",".join([name, *kept])


def check_labels(shards: ShardSet, split: str) -> None:
    """Refuse a split with unlabelled samples, or labels that the manifest does not name."""
    labels = shards.labels(split)
    missing = int((labels < 0).sum())
    if missing:
        msg = (
            f"{missing} of the {len(labels)} {split} samples in {shards.path} have no label, and "
            f"a classifier learns from labels: {_HOW_TO_LABEL}"
        )
        raise SettingsError(msg)
    unknown = sorted(set(labels.tolist()) - set(shards.class_names))
    if unknown:
        msg = f"{shards.path}: {split} has labels {unknown[:5]} that the manifest does not name"
        raise DamageError(msg)


def filled_splits(shards: ShardSet) -> list[str]:
    """List the splits that hold samples."""
    known = ("train", "val", "test")
    return [split for split in known if split in shards.splits and shards.num_samples(split)]


def check_splits(shards: ShardSet) -> None:
    """Refuse a set that cannot be trained on and tested: of one class, or without a split."""
    if len(shards.class_names) < 2:
        names = ", ".join(shards.class_names.values()) or "none"
        msg = f"{shards.path} has classes: {names}; a classifier needs at least two"
        raise SettingsError(msg)
    for split, use in (("train", "learn from"), ("test", "measure on")):
        if split not in filled_splits(shards):
            msg = (
                f"{shards.path} has no {split} samples to {use}; convert folders named train/ and "
                "test/, list files train_label.txt and test_label.txt, or enough recordings for "
                "the automatic 80/10/10 split"
            )
            raise SettingsError(msg)


def check_fits(spec: DataSpec, run: DataSpec, *, other_settings: bool = False) -> None:
    """Refuse to evaluate a run on shards with other classes, bins, representation or clips.

    Parameters
    ----------
    spec, run : DataSpec
        Of the shards, and of those that the run was trained on.
    other_settings : bool
        Allow clips that were made with other settings, on purpose.

    Raises
    ------
    SettingsError
        Names what differs and says the cure.
    """
    if spec.representation != run.representation or spec.bins != run.bins:
        msg = (
            f"the run was trained on {run.bins} bins of {run.representation}, these shards hold "
            f"{spec.bins} bins of {spec.representation}; convert and shard with the run's settings"
        )
        raise SettingsError(msg)
    known = places(spec.classes, run.classes)
    strange = [f"{i} {name}" for i, name in spec.classes.items() if i not in known]
    if strange:
        msg = (
            f"the run was trained on {', '.join(list(run.classes.values())[:5])}"
            f"{', ...' if len(run.classes) > 5 else ''} and has not one class of these names: "
            f"{', '.join(strange[:5])}; name them as those of the run, or leave them out"
        )
        raise SettingsError(msg)
    differences = [] if other_settings else clip_differences(spec, run)
    if differences:
        msg = (
            f"expected clips made as those that the run was trained on, got shards with "
            f"{'; '.join(differences)}: convert and shard with the run's settings, or give "
            "--other-settings to measure across settings"
        )
        raise SettingsError(msg)


def clip_differences(spec: DataSpec, run: DataSpec) -> list[str]:
    """List the settings of clips in which shards differ from those that a run was trained on.

    A set that does not say how its clips were cut differs in nothing that is known; what else a set
    does not say has its default, as in versions that did not have the setting.

    Returns
    -------
    list of str
        As ``clip_us 5000 (the run: none)``.
    """
    here, there = spec.clip_settings, run.clip_settings
    if "windows" not in here or "windows" not in there:
        return []
    pairs = {name: (_plain(here, name), _plain(there, name)) for name in _OF_CLIPS}
    return [f"{name} {_word(a)} (the run: {_word(b)})" for name, (a, b) in pairs.items() if a != b]


def _plain(settings: Mapping[str, Any], name: str) -> Any:
    """Return a setting as JSON has it, which knows no tuples."""
    return json.loads(json.dumps(settings.get(name, _OF_CLIPS[name])))


def _word(value: Any) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value)
