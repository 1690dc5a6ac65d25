"""The index of NVIDIA DALI's webdataset reader, as its ``wds2idx`` makes it by reading the tar.

Text: ``v1.2 <samples>``, then a line a sample with ``extension offset size name`` of each member.
Source: https://github.com/NVIDIA/DALI/blob/main/tools/wds2idx.py
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

VERSION = "v1.2"


def dali_path(tar: str) -> str:
    """Return where the index of a tar lies, relative to the set.

    Examples
    --------
    >>> dali_path("train/train-000000.tar")
    'index/dali/train-000000.idx'
    """
    return f"index/dali/{PurePosixPath(tar).stem}.idx"


def dali_index(
    keys: Sequence[str],
    fields: Sequence[str],
    *,
    offsets: NDArray[np.int64],
    sizes: NDArray[np.int64],
) -> bytes:
    """Return the index of one tar.

    Parameters
    ----------
    keys : sequence of N str
    fields : sequence of F str
        Suffixes of the members of every sample, in order.
    offsets, sizes : (N, F) int64, bytes
        Of the data of each member.
    """
    lines = [f"{VERSION} {len(keys)}"]
    for key, starts, lengths in zip(keys, offsets.tolist(), sizes.tolist(), strict=True):
        parts = zip(fields, starts, lengths, strict=True)
        lines.append(" ".join(f"{ext} {start} {size} {key}.{ext}" for ext, start, size in parts))
    return ("\n".join(lines) + "\n").encode("ascii")
