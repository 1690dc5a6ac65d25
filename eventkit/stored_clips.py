"""Some clips of a store: a sequence that is cheap to cut, and to choose from by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from eventkit.errors import SettingsError
from eventkit.location import Location
from eventkit.pack_reader import StoredClip

_NAMED = 8


class ClipSource(Protocol):
    """All clips of a store, by their places."""

    @property
    def path(self) -> Location:
        """Where it is."""
        ...

    @property
    def all_facts(self) -> list[dict[str, Any]]:
        """What is noted of every clip."""
        ...

    @property
    def all_labels(self) -> NDArray[np.int64]:
        """(N,) class ids of every clip."""
        ...

    def clip_at(self, place: int) -> StoredClip:
        """Return the clip of a place."""
        ...


class Clips:
    """Some clips of a store, in order: a sequence of `StoredClip` that is cheap to cut.

    ``clips[3]`` is a clip, ``clips[10:20]`` clips, ``clips["name"]`` those of a recording.
    """

    def __init__(self, store: ClipSource, places: Sequence[int] | NDArray[np.int64]) -> None:
        self._store, self._places = store, places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, key: int) -> StoredClip: ...
    @overload
    def __getitem__(self, key: slice | str) -> Clips: ...
    def __getitem__(self, key: int | slice | str) -> StoredClip | Clips:
        if isinstance(key, str):
            return self.select(recording=key)
        if isinstance(key, slice):
            return Clips(self._store, self._places[key])
        if not -len(self) <= key < len(self):
            msg = f"expected a clip below {len(self)}, got clip {key} of {len(self)}"
            raise IndexError(msg)
        return self._store.clip_at(int(self._places[key]))

    def __iter__(self) -> Iterator[StoredClip]:
        return (self._store.clip_at(int(place)) for place in self._places)

    def __repr__(self) -> str:
        facts = self._facts
        splits = Counter(str(each.get("split") or "no split") for each in facts)
        names = some(sorted({str(each["label_name"]) for each in facts if each.get("label_name")}))
        recordings = len({each["recording"] for each in facts})
        words = [
            f"{len(self):,} clips of {recordings:,} recordings in {self._store.path}",
            ", ".join(f"{count:,} {split}" for split, count in sorted(splits.items())),
            f"classes: {names}" if names else "no classes",
            f"the first: {self[0]!r}" if len(self) else "",
        ]
        return f"<{'; '.join(word for word in words if word)}>"

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,) class ids, -1 without a label."""
        return self._store.all_labels[np.asarray(self._places, np.int64)]

    @property
    def splits(self) -> list[str]:
        """N names, ``train``, ``val`` or ``test``."""
        return [str(each["split"]) for each in self._facts]

    @property
    def recordings(self) -> list[str]:
        """N names of recordings; a recording that was cut has several clips."""
        return [str(each["recording"]) for each in self._facts]

    def select(
        self,
        *,
        split: str | None = None,
        label: int | str | None = None,
        recording: str | None = None,
    ) -> Clips:
        """Return the clips of a split, a class (its id or name) or a recording, or of all of these.

        Raises
        ------
        SettingsError
            If there is none; says what there is.
        """
        chosen: Clips = self
        for key, value in (("split", split), ("recording", recording), ("label", label)):
            if value is not None:
                chosen = chosen._where(key, value)
        return chosen

    def _where(self, key: str, value: int | str) -> Clips:
        found: list[Any]
        if key == "label" and not isinstance(value, str):
            found = self.labels.tolist()
        else:
            name = "label_name" if key == "label" else key
            found = [facts.get(name) for facts in self._facts]
        kept = [place for place, each in zip(self._places, found, strict=True) if each == value]
        if not kept:
            msg = f"expected a {key} among {some(sorted(set(map(str, found))))}, got {value!r}"
            raise SettingsError(msg)
        return Clips(self._store, kept)

    @property
    def _facts(self) -> list[dict[str, Any]]:
        every = self._store.all_facts
        return [every[place] for place in self._places]


def some(names: Sequence[str]) -> str:
    """Return names in words, the first of many.

    Examples
    --------
    >>> some(["a", "b"])
    'a, b'
    """
    more = f", ... ({len(names)} in all)" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
