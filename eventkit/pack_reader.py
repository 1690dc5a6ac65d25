"""One pack of the Zarr store, read clip by clip."""

from __future__ import annotations

import io
import itertools
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from eventkit._optional import require
from eventkit.errors import (
    DamageError,
    InvalidEventsError,
    MissingDataError,
)
from eventkit.events import Events
from eventkit.guarded_array import GuardedArray, cure_of, damage_of
from eventkit.location import Location
from eventkit.pack_layout import COLUMNS, RAW_DTYPES, check_encoding, open_group
from eventkit.parts import near
from eventkit.samples import decode_images

if TYPE_CHECKING:
    from PIL.Image import Image

_PURPOSE = "reading the store"


class StoredClip:
    """One clip of a store; its arrays are read when asked for, and then kept with it.

    Attributes
    ----------
    columns : dict
        A row of each small column: ``window_us``, ``exposure_us``, ``rgb_index``, ``binned``,
        ``clipped``, ``decoded``, ``label``, ``has_events``, ``has_rgb``.
    facts : dict
        ``recording``, ``clip``, ``split``, ``label_name``, ``sensor_size``, ``dropped`` and others.

    Raises
    ------
    DamageError
        By whatever reads: if a file is not there or not as it was written.
    """

    def __init__(self, pack: Pack, number: int, *, with_diffs: bool = True) -> None:
        self._pack, self._number, self._with_diffs = pack, number, with_diffs
        self.columns = pack.row(number)
        self.facts = pack.facts[number]

    def __repr__(self) -> str:
        start, stop = self.span_us
        named = f" {self.label_name!r}" if self.label_name else ""
        parts = [
            f"label {self.label}{named}",
            str(self.facts.get("split") or "no split"),
            self._pack.words_of_events if self.has_events else "no events",
            self._pack.words_of_pictures if self.has_rgb else "no pictures",
            f"{start:,} to {stop:,} us",
        ]
        return f"<clip {self.facts.get('clip')} of {self.recording}: {', '.join(parts)}>"

    @property
    def recording(self) -> str:
        """Name of the recording."""
        return str(self.facts["recording"])

    @property
    def split(self) -> str:
        """``train``, ``val`` or ``test``."""
        return str(self.facts["split"])

    @property
    def label(self) -> int:
        """Class id, -1 without a label."""
        return int(self.columns["label"])

    @property
    def label_name(self) -> str:
        """Name of the class, empty without a label."""
        return str(self.facts.get("label_name") or "")

    @property
    def has_events(self) -> bool:
        """Whether there are events; if not, frames are zeros."""
        return bool(self.columns["has_events"])

    @property
    def has_rgb(self) -> bool:
        """Whether there are pictures; if not, `pixels` are zeros."""
        return bool(self.columns["has_rgb"])

    @property
    def span_us(self) -> tuple[int, int]:
        """Start and stop in microseconds, half-open."""
        windows = self.window_us
        start, stop = self.facts.get("span_us") or (windows[0, 0], windows[-1, 1])
        return int(start), int(stop)

    @property
    def window_us(self) -> NDArray[np.int64]:
        """(T, 2) microseconds: each window, half-open."""
        windows: NDArray[np.int64] = self.columns["window_us"]
        return windows

    @property
    def exposure_us(self) -> NDArray[np.int64]:
        """(T, 2) microseconds: start and stop of each picture, -1 without."""
        exposures: NDArray[np.int64] = self.columns["exposure_us"]
        return exposures

    @cached_property
    def events(self) -> NDArray[Any]:
        """(T, C, H, W): the frames of the representation."""
        return self._pack.read("events", self._number)

    @cached_property
    def rgb(self) -> NDArray[np.uint8] | None:
        """(T, H, W, C) pixels; None where the files of the pictures are kept instead."""
        return self._pack.read_if_there("rgb", self._number)

    @cached_property
    def encoded(self) -> tuple[bytes, ...] | None:
        """T files, PNG or JPEG, as they were; None where pixels are kept instead."""
        return self._pack.images(self._number) if "rgb_bytes" in self._pack else None

    @cached_property
    def pixels(self) -> NDArray[np.uint8]:
        """(T, H, W, C) pixels, however the pictures are kept."""
        if self.encoded is not None:
            return decode_images(self.encoded)
        assert self.rgb is not None
        return self.rgb

    @property
    def picture_shape(self) -> tuple[int, int, int] | None:
        """(H, W, C), nothing is read for it; None where the files of the pictures are kept."""
        return self._pack.picture_shape

    @property
    def pictures(self) -> list[Image]:
        """T pictures of PIL, which a notebook shows; empty for a clip without."""
        pil = require("PIL.Image", extra="images", purpose="showing pictures")
        if not self.has_rgb:
            return []
        if self.encoded is not None:
            return [pil.open(io.BytesIO(data)) for data in self.encoded]
        return [pil.fromarray(p[:, :, 0] if p.shape[2] == 1 else p) for p in self.pixels]

    @cached_property
    def diff_events(self) -> NDArray[Any] | None:
        """(T - 1, C, H, W), None where there are none."""
        return self._difference("diff_events")

    @cached_property
    def diff_rgb(self) -> NDArray[Any] | None:
        """(T - 1, H, W, C), None where there are none."""
        return self._difference("diff_rgb")

    @property
    def has_raw_events(self) -> bool:
        """Whether the store was made with ``--raw-events``."""
        return "raw_t" in self._pack

    @property
    def raw_events(self) -> Events:
        """The events of the clip, in its windows or not.

        Raises
        ------
        MissingDataError
            If the store was made without ``--raw-events``.
        """
        if not self.has_raw_events:
            msg = "this store holds no events, only frames; convert again with --raw-events"
            raise MissingDataError(msg)
        return self._pack.raw_events(self._number)

    def _difference(self, name: str) -> NDArray[Any] | None:
        return self._pack.read_if_there(name, self._number) if self._with_diffs else None


class Pack:
    """One pack opened for reading."""

    def __init__(self, path: Location) -> None:
        path = near(path)
        if not (path / "zarr.json").is_file():
            msg = f"{path}: expected a Zarr group, found none; run `eventkit convert` again"
            raise DamageError(msg)
        self.path = path
        with damage_of(path):
            group = open_group(path)
            self.attributes: dict[str, Any] = dict(group.attrs)
        check_encoding(path, self.attributes)
        with damage_of(path):
            # Opening an array reads its metadata from the disk: once, not once a clip.
            self._arrays = {name: GuardedArray(path, name, found) for name, found in group.arrays()}
            self._columns = {name: self._arrays[name].read() for name in COLUMNS}
            if "rgb_bytes" in self._arrays:
                self._offsets = self._arrays["rgb_offsets"].read()
                self._slots = self._arrays["rgb_slot"].read()
            if "raw_t" in self._arrays:
                self._raw_offsets = self._arrays["raw_offsets"].read()
            self.facts: list[dict[str, Any]] = self.attributes.pop("clips")
        # Paths and sizes of the raw files: twice as much memory as the facts, and not asked for.
        self.attributes.pop("sources", None)

    def __len__(self) -> int:
        return len(self.facts)

    def __contains__(self, name: object) -> bool:
        return name in self._arrays

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class ids of the clips, -1 without a label."""
        labels: NDArray[np.int64] = self._columns["label"]
        return labels

    @property
    def words_of_events(self) -> str:
        """Shape and type of the frames of a clip, nothing is read for it."""
        return f"events {self._arrays['events'].words()}"

    @property
    def picture_shape(self) -> tuple[int, int, int] | None:
        """(H, W, C), nothing is read for it; None where the files of the pictures are kept."""
        if "rgb_bytes" in self._arrays:
            return None
        height, width, channels = self._arrays["rgb"].shape[2:]
        return height, width, channels

    @property
    def words_of_pictures(self) -> str:
        """What there is of the pictures of a clip, nothing is read for it."""
        if "rgb_bytes" in self._arrays:
            return f"{self._slots.shape[1]} pictures as files"
        return f"pictures {self._arrays['rgb'].words()}"

    def clip(self, i: int, *, with_diffs: bool = True) -> StoredClip:
        """Return clip ``i``; differences that are not wanted are None."""
        return StoredClip(self, i, with_diffs=with_diffs)

    def row(self, i: int) -> dict[str, Any]:
        """Return a row of every small column."""
        return {name: values[i] for name, values in self._columns.items()}

    def read(self, name: str, i: int) -> NDArray[Any]:
        """Read what an array holds of clip ``i``: one inner chunk."""
        row: NDArray[Any] = self._arrays[name].read(i, i + 1)[0]
        return row

    def read_if_there(self, name: str, i: int) -> NDArray[Any] | None:
        """Read what an array holds of clip ``i``, None if there is no such array."""
        return self.read(name, i) if name in self._arrays else None

    def raw_events(self, i: int) -> Events:
        """Return the events of a clip, checked anew."""
        start, stop = int(self._raw_offsets[i]), int(self._raw_offsets[i + 1])
        columns = {name: self._arrays[f"raw_{name}"].read(start, stop) for name in RAW_DTYPES}
        try:
            return Events(**columns)
        except InvalidEventsError as err:
            where = f"{self.path} is damaged, clip {i}"
            msg = f"{where}: expected events in order, got {err}; {cure_of(self.path)}"
            raise DamageError(msg) from err

    def images(self, i: int) -> tuple[bytes, ...]:
        """Return the T image files of a clip: those of a clip stand side by side, read at once."""
        slots = self._slots[i]
        edges = self._offsets[slots.min() : slots.max() + 2].tolist()
        data = self._arrays["rgb_bytes"].read(edges[0], edges[-1]).tobytes()
        pieces = [data[a - edges[0] : b - edges[0]] for a, b in itertools.pairwise(edges)]
        return tuple(pieces[slot] for slot in (slots - slots.min()).tolist())
