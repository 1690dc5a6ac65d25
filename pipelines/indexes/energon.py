"""What NVIDIA Megatron Energon keeps of a data set, without its ``energon prepare``.

Beside each tar ``<name>.tar.idx``: 64-bit little-endian offsets of every sample, and the end of the
last. In ``.nv-meta`` the counts, the splits and the kind of sample. Its sqlite file is left out: it
serves random access by name, and loading does without.
Source: https://github.com/NVIDIA/Megatron-Energon, ``flavors/webdataset/itar.py``, ``prepare.py``
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from eventkit.samples import encode_json
from pipelines.tar import BLOCK

FOLDER = ".nv-meta"
_DATASET = """\
__module__: megatron.energon
__class__: CrudeWebdataset
subflavors:
  format: eventkit
"""


def energon_path(tar: str) -> str:
    """Return where the index of a tar lies, relative to the set.

    Examples
    --------
    >>> energon_path("train/train-000000.tar")
    'train/train-000000.tar.idx'
    """
    return f"{tar}.idx"


def energon_index(*, offsets: NDArray[np.int64], sizes: NDArray[np.int64]) -> bytes:
    """Return the index of one tar from (N, F) offsets and sizes of its members, bytes."""
    starts = offsets[:, 0] - BLOCK
    end = offsets[-1, -1] + -(-sizes[-1, -1] // BLOCK) * BLOCK
    return np.append(starts, end).astype("<u8").tobytes()


def energon_metadata(
    counts: Mapping[str, int], splits: Mapping[str, Sequence[str]], *, plan_id: str
) -> dict[str, bytes]:
    """Return the files of ``.nv-meta``, path relative to the set -> content.

    Parameters
    ----------
    counts : mapping of tar -> samples
    splits : mapping of split -> tars
    plan_id : str
        Hexadecimal; the id that Energon draws at random comes from it, so equal sets are equal.
    """
    parts = "".join(
        f"  {split}:\n" + "".join(f"  - {name}\n" for name in names)
        for split, names in splits.items()
    )
    return {
        f"{FOLDER}/.info.json": encode_json({"shard_counts": dict(counts)}),
        f"{FOLDER}/dataset.yaml": _DATASET.encode(),
        f"{FOLDER}/index.uuid": str(uuid.UUID(plan_id[:32])).encode(),
        f"{FOLDER}/split.yaml": f"split_parts:\n{parts}exclude: []\n".encode(),
    }
