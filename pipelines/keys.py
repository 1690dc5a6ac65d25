"""Keys of samples: two recordings that come to one are refused before days are spent on them.

A key is what can be read of a name, and where that is not all, ``-`` and a digest of it
(`eventkit.samples.sample_key`). So two recordings of one key have the same digest, or one is called
by the digest of the other. With 10^6 names that leaves some hundred whose keys have to be made:
1.5 s instead of 8.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import SettingsError
from eventkit.samples import key_digest, sample_key

_CALLED = re.compile(r"-[0-9a-f]{8}", re.ASCII)


def refuse_same_keys(recordings: Sequence[str], clips: Sequence[int]) -> None:
    """Refuse recordings whose samples would have the same keys.

    Memory is some 30 bytes a recording.

    Parameters
    ----------
    recordings : sequence of N str
        Their ids.
    clips : sequence of N int
        How many each has; one without any has no sample.

    Raises
    ------
    SettingsError
        Names both.

    Examples
    --------
    >>> refuse_same_keys(["a/b", "a_b", "a b"], [1, 1, 1])
    >>> refuse_same_keys(["a b", "a/b-c8687a08"], [1, 1])
    Traceback (most recent call last):
        ...
    eventkit.errors.SettingsError: expected names that differ as keys of samples, got 'a b' and \
'a/b-c8687a08', both a_b-c8687a08_000000; rename one
    """
    keys: dict[str, str] = {}
    for i in _like_another(recordings):
        if clips[i]:
            key = sample_key(recordings[i], 0)
            if key in keys:
                msg = (
                    f"expected names that differ as keys of samples, got {keys[key]!r} and "
                    f"{recordings[i]!r}, both {key}; rename one"
                )
                raise SettingsError(msg)
            keys[key] = recordings[i]


def _like_another(recordings: Sequence[str]) -> list[int]:
    """Return the places of those that may have the key of another one."""
    digests = bytearray()
    for name in recordings:
        digests += key_digest(name)
    called = [i for i, name in enumerate(recordings) if _CALLED.fullmatch(name, len(name) - 9)]
    by_name: NDArray[np.uint32] = np.array([int(recordings[i][-8:], 16) for i in called], np.uint32)
    values = np.concatenate([np.frombuffer(digests, ">u4").astype(np.uint32), by_name])
    places = np.concatenate([np.arange(len(recordings)), np.array(called, np.int64)])
    order = np.argsort(values)
    same = values[order[1:]] == values[order[:-1]]
    return sorted({*places[order[1:][same]].tolist(), *places[order[:-1][same]].tolist()})
