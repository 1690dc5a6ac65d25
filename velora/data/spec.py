"""What a set of shards holds, and whether a model can learn from it."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from eventkit.errors import DamageError, SettingsError
from eventkit.shards import ShardSet

# What pictures can be drawn from: family -> channels of a frame.
_DRAWN = {"counts": (1, 2), "voxel": (1, 2), "image": (3,)}

_HOW_TO_LABEL = (
    "put the recordings into one folder per class, or give `eventkit convert` a list file with "
    "lines `<class>/<recording> <frames> <label>`, then convert and shard again"
)


class DataSpec(Struct, frozen=True, kw_only=True):
    """What a model must know of the shards it was trained on."""

    plan_id: str
    representation: str
    bins: int
    #: Class id -> name; the order of the ids is the order of the logits.
    classes: dict[int, str]

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
        Unknown representation, fewer than two classes, missing labels, no samples; says the cure.
    """
    representation = str(shards.manifest.get("settings", {}).get("representation", ""))
    if representation.split(":")[0] not in _DRAWN:
        raise _cannot_draw(shards, representation)
    filled = [split for split in shards.splits if shards.num_samples(split)]
    if not filled:
        msg = f"{shards.path} holds no samples; look at what `eventkit convert` quarantined"
        raise SettingsError(msg)
    for split in filled if splits is None else splits:
        check_labels(shards, split)
    if len(shards.class_names) < 2:
        names = ", ".join(shards.class_names.values()) or "none"
        msg = f"{shards.path} has classes: {names}; a classifier needs at least two"
        raise SettingsError(msg)
    events = shards.sample(filled[0], 0).events
    if events.ndim != 4 or events.shape[1] not in _DRAWN[representation.split(":")[0]]:
        raise _cannot_draw(shards, f"{representation} of shape {events.shape}")
    return DataSpec(
        plan_id=str(shards.manifest["plan_id"]),
        representation=_as_drawn(representation),
        bins=int(events.shape[0]),
        classes=dict(sorted(shards.class_names.items())),
    )


def _cannot_draw(shards: ShardSet, found: str) -> SettingsError:
    msg = (
        f"{shards.path} holds events as {found or 'nothing known'!r}; VELoRA draws pictures from "
        "counts:..., voxel:... of one or two channels and image:... of three: convert with "
        "`--repr counts:eventkit`"
    )
    return SettingsError(msg)


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


def check_splits(shards: ShardSet) -> None:
    """Refuse a set that cannot be trained on and tested: training needs both splits."""
    for split, use in (("train", "learn from"), ("test", "measure on")):
        if split not in shards.splits or not shards.num_samples(split):
            msg = (
                f"{shards.path} has no {split} samples to {use}; convert folders named train/ and "
                "test/, list files train_label.txt and test_label.txt, or enough recordings for "
                "the automatic 80/10/10 split"
            )
            raise SettingsError(msg)


def check_fits(spec: DataSpec, run: DataSpec) -> None:
    """Refuse to evaluate a run on shards with other classes, bins or representation."""
    if spec.representation != run.representation or spec.bins != run.bins:
        msg = (
            f"the run was trained on {run.bins} bins of {run.representation}, these shards hold "
            f"{spec.bins} bins of {spec.representation}; convert and shard with the run's settings"
        )
        raise SettingsError(msg)
    strange = [f"{i} {name}" for i, name in spec.classes.items() if run.classes.get(i) != name]
    if strange:
        msg = (
            f"classes of these shards that the run does not have under that id: "
            f"{', '.join(strange[:5])}; evaluate on shards made with the same class list"
        )
        raise SettingsError(msg)
