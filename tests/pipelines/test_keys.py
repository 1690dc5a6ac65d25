"""Two recordings of one key are found among any number of others, and nothing else is."""

from __future__ import annotations

import doctest
import time
import tracemalloc
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import pipelines.keys
from eventkit.errors import SettingsError
from eventkit.samples import key_digest, sample_key
from pipelines.keys import refuse_same_keys


def forged(name: str) -> str:
    """Return a name of letters and digits that comes to the same key."""
    return sample_key(name, 0).removesuffix("_000000").replace("_", "/")


def slow_twin(recordings: Sequence[str], clips: Sequence[int]) -> bool:
    """Whether a key comes twice, by making all of them."""
    keys = [
        sample_key(name, clip)
        for name, count in zip(recordings, clips, strict=True)
        for clip in range(count)
    ]
    return len(set(keys)) < len(keys)


NAMES = st.text(alphabet="ab/_. -ö0", max_size=80) | st.text(max_size=9)


@given(st.lists(st.tuples(NAMES | NAMES.map(forged), st.integers(0, 2)), max_size=30))
@example([("a b", 1), (forged("a b"), 1)])
@example([("a b", 0), (forged("a b"), 1)])
@example([("a b", 1), ("a b", 1)])
@example([])
def test_what_is_refused_has_a_key_twice(recordings: list[tuple[str, int]]) -> None:
    names = [name for name, _ in recordings]
    clips = [count for _, count in recordings]
    twice = slow_twin(names, clips)

    if twice:
        with pytest.raises(SettingsError, match="expected names that differ as keys of samples"):
            refuse_same_keys(names, clips)
    else:
        refuse_same_keys(names, clips)


def test_both_recordings_and_the_key_are_named() -> None:
    names = ["c", "a b", "d", forged("a b")]

    with pytest.raises(SettingsError, match=rf"got 'a b' and '{names[3]}', both a_b-\w+_000000; "):
        refuse_same_keys(names, [1] * 4)


def test_a_file_name_that_is_no_utf8_has_a_key() -> None:
    refuse_same_keys([b"caf\xe9".decode("utf-8", "surrogateescape"), "caf\xe9"], [1, 1])


def test_long_names_whose_digests_meet_are_found_among_many() -> None:
    names = ["x" * 70 + f"{i:06d}" for i in range(300_000)]
    met: dict[bytes, list[str]] = {}
    for name in names:
        met.setdefault(key_digest(name), []).append(name)
    pairs = [pair for pair in met.values() if len(pair) > 1]
    assert pairs  # 2^32 digests, so some ten of 4.5 10^10 pairs
    assert all(sample_key(a, 0) == sample_key(b, 0) for a, b in pairs)

    with pytest.raises(SettingsError, match="x" * 70):
        refuse_same_keys(names, [1] * len(names))
    for pair in pairs:
        names.remove(pair[0])
    refuse_same_keys(names, [1] * len(names))


def test_a_million_recordings_take_little_time_and_memory() -> None:
    names = [f"train/class_{i % 300:03d}/dvSave-2022_09_29_{i:07d}" for i in range(10**6)]
    clips = [1] * len(names)

    begun = time.process_time()  # of this process: others may keep the machine busy
    refuse_same_keys(names, clips)
    seconds = time.process_time() - begun
    tracemalloc.start()
    try:
        refuse_same_keys(names[: 10**5], clips)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert seconds < 3
    assert peak < 60 * 10**5


def test_the_examples_hold() -> None:
    result = doctest.testmod(pipelines.keys, optionflags=doctest.NORMALIZE_WHITESPACE)

    assert (result.failed, result.attempted) == (0, 2)
