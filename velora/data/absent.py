"""What a set lacks that a run will miss: said before an hour is spent on it.

Only what makes a run impossible is refused, by `velora.data.seen.check_seen`. These lines are of
sets that can be trained on, to a result that has less in it than it seems to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from eventkit.cli.text import printable
from eventkit.shards import ShardSet
from velora.data.seen import any_seen, spoken
from velora.data.spec import DataSpec, filled_splits

_MOST_NAMED = 5


def absences(shards: ShardSet, spec: DataSpec, senses: Sequence[str]) -> Iterator[str]:
    """Yield a line for each thing that a set lacks, none for a set that has all.

    Parameters
    ----------
    shards : ShardSet
    spec : DataSpec
        Of the shards.
    senses : sequence of {"rgb", "event"}
        What the model looks at.
    """
    if "val" not in filled_splits(shards):
        yield "no val split: the last epoch is kept, for the test split never selects"
    elif not any_seen(shards, "val", senses):
        yield (
            f"no val clip has {spoken(senses)}: the last epoch is kept, for the test split never "
            "selects"
        )
    # A set of another maker does not count these; nothing is said of it.
    clips = shards.manifest.get("clips")
    if len(senses) > 1 and isinstance(clips, dict) and clips.get("both") == 0:
        yield (
            "no clip of these shards has both RGB and events, so there is nothing to fuse: "
            "--streams event or --streams rgb trains a model of one of them"
        )
    yield from _unlearnt(shards, spec)


def _unlearnt(shards: ShardSet, spec: DataSpec) -> Iterator[str]:
    learnt = set(np.unique(shards.labels("train")).tolist())
    absent = [printable(spec.classes[i]) for i in spec.class_ids if i not in learnt]
    if absent:
        has = "has" if len(absent) == 1 else "have"
        more = ", ..." if len(absent) > _MOST_NAMED else ""
        yield (
            f"{len(absent)} of {len(spec.classes)} classes {has} no train clip, and nothing to "
            f"learn {'it' if len(absent) == 1 else 'them'} from: "
            f"{', '.join(absent[:_MOST_NAMED])}{more}"
        )
