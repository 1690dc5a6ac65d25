"""Which place among a run's logits a class of some shards has: by its name."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from eventkit.shards import ShardSet


def places(classes: Mapping[int, str], run: Mapping[int, str]) -> dict[int, int]:
    """Find the classes of a set among those of a run.

    Ids are those of one conversion: folders with fewer classes, or with one more, are numbered
    anew. So a class is the one of the same name; where a run has a name twice, of the same id too.

    Parameters
    ----------
    classes, run : mapping of int to str
        Class id -> name, of the set and of the set that the run was trained on.

    Returns
    -------
    dict
        Class id of the set -> place among the logits, which are in the order of the run's ids.
        Classes that the run does not have are left out.
    """
    ids = sorted(run)
    names = [run[class_id] for class_id in ids]
    found = {}
    for class_id, name in classes.items():
        if run.get(class_id) == name:
            found[class_id] = ids.index(class_id)
        elif names.count(name) == 1:
            found[class_id] = names.index(name)
    return found


def placed_labels(shards: ShardSet, split: str, run: Mapping[int, str]) -> NDArray[np.int64]:
    """Return the labels of a split as places among a run's logits.

    Raises
    ------
    KeyError
        For a class that the run does not have, which `check_fits` refuses before.
    """
    found = places(shards.class_names, run)
    return np.array([found[label] for label in shards.labels(split).tolist()], dtype=np.int64)
