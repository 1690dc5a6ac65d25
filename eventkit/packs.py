"""Writing a pack of the Zarr store; `eventkit.store` has the layout and reads it.

An inner chunk is one clip; an outer shard holds at most `SHARD_BYTES` raw and is written whole,
once, by one task: what several write to a shard is lost. Every chunk is written, empty or not, with
a crc32c: a lost file can then be told from "no events".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit._optional import require
from eventkit.clips import Clip
from eventkit.events import Events
from eventkit.pack_arrays import PackArray, compressors
from eventkit.pack_layout import COLUMNS, ENCODING, RAW_DTYPES

SHARD_BYTES = 64 << 20
BYTES_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class ClipRecord:
    """A clip and what the data set knows about it.

    ``facts`` goes into the attributes as it is: recording, split, label_name, sensor_size, format.
    """

    clip: Clip
    label: int
    facts: Mapping[str, Any]


class PackWriter:
    """Writes one pack, clip after clip, in memory for one clip.

    Parameters
    ----------
    path : Path
        Folder of the group; must not exist.
    attributes : mapping
        Settings, plan id, versions; stored on the group.
    clips : int
        How many are planned; shards are not made larger than that.
    """

    def __init__(self, path: Path, *, attributes: Mapping[str, Any], clips: int) -> None:
        zarr = require("zarr", extra="zarr", purpose="writing the store")
        self._group = zarr.create_group(str(path), zarr_format=3)
        self._attributes = {**ENCODING, **attributes}
        self._planned = clips
        self._large: dict[str, PackArray] = {}
        self._images: _FlatColumn | None = None
        self._raw: dict[str, _FlatColumn] = {}
        self._slots: list[list[int]] = []
        self._columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        self._facts: list[dict[str, Any]] = []
        self._rows = 0

    def append(self, record: ClipRecord) -> None:
        """Add a clip; all clips of a pack have the same shapes and kind of RGB."""
        clip = record.clip
        large = {"events": clip.events}
        if clip.encoded is None:
            large["rgb"] = clip.rgb
        else:
            self._add_images(clip.encoded)
        if clip.diff_events is not None and clip.diff_events.size:
            large["diff_events"] = clip.diff_events
        if clip.diff_rgb is not None and clip.diff_rgb.size:
            large["diff_rgb"] = clip.diff_rgb
        if not self._large:
            rows = min(rows_per_shard(large), max(1, self._planned))
            self._large = {
                name: PackArray(
                    self._group,
                    name,
                    chunk=(1, *array.shape),
                    shard=rows,
                    dtype=array.dtype,
                )
                for name, array in large.items()
            }
        for name, array in large.items():
            self._large[name].append(array[np.newaxis])
        if clip.raw_events is not None:
            self._add_events(clip.raw_events)
        self._add_row(record)

    def close(self) -> int:
        """Write what is left, the columns and the attributes; return the number of clips."""
        for large in self._large.values():
            large.close(self._rows)
        if self._images is not None:
            self._images.close()
            self._write("rgb_offsets", np.array(self._images.offsets, np.int64))
            self._write("rgb_slot", np.array(self._slots, np.int64))
        for column in self._raw.values():
            column.close()
        if self._raw:
            self._write("raw_offsets", np.array(self._raw["raw_t"].offsets, np.int64))
        for name, values in self._columns.items():
            self._write(name, np.array(values, np.int64))
        self._group.attrs.put({**self._attributes, "clips": self._facts})
        return self._rows

    def _add_images(self, encoded: tuple[bytes, ...]) -> None:
        if self._images is None:
            self._images = _FlatColumn(self._group, "rgb_bytes", "u1", compressed=False)
        seen: dict[bytes, int] = {}
        for data in encoded:
            if data not in seen:
                seen[data] = self._images.append(np.frombuffer(data, np.uint8))
        self._slots.append([seen[data] for data in encoded])

    def _add_events(self, events: Events) -> None:
        if not self._raw:
            self._raw = {
                f"raw_{name}": _FlatColumn(self._group, f"raw_{name}", kind)
                for name, kind in RAW_DTYPES.items()
            }
        for name in RAW_DTYPES:
            self._raw[f"raw_{name}"].append(getattr(events, name))

    def _add_row(self, record: ClipRecord) -> None:
        clip = record.clip
        row: dict[str, Any] = {
            "window_us": clip.windows_us,
            "exposure_us": clip.exposure_us,
            "rgb_index": clip.rgb_index,
            "binned": clip.binned,
            "clipped": clip.clipped,
            "decoded": clip.decoded,
            "label": record.label,
            "has_events": clip.has_events,
            "has_rgb": clip.has_rgb,
        }
        for name, value in row.items():
            # Numbers, not the arrays: each would be kept where a large one was let go, and the next
            # large one has no room there (glibc: 0.12 MiB a clip, without end).
            self._columns[name].append(np.asarray(value).tolist())
        self._facts.append(
            {
                **record.facts,
                "clip": clip.index,
                "dropped": clip.dropped,
                "flags": list(clip.flags),
                "rgb_static": clip.rgb_static,
                "rgb_suffix": clip.rgb_suffix if clip.encoded else "",
                "rgb_times": clip.rgb_times,
                **({} if clip.span_us is None else {"span_us": list(clip.span_us)}),
            }
        )
        self._rows += 1

    def _write(self, name: str, values: NDArray[np.int64]) -> None:
        array = self._group.create_array(
            name,
            shape=values.shape,
            dtype=values.dtype,
            chunks=values.shape,
            compressors=compressors(),
            fill_value=0,
            config={"write_empty_chunks": True},
        )
        array[...] = values


def rows_per_shard(arrays: Mapping[str, NDArray[Any]]) -> int:
    """Return how many clips fill an outer shard of the largest array."""
    return max(1, SHARD_BYTES // max(array.nbytes for array in arrays.values()))


class _FlatColumn:
    """Pieces of any length end to end (image files, events), in chunks of `BYTES_CHUNK`."""

    def __init__(self, group: Any, name: str, dtype: str, *, compressed: bool = True) -> None:
        self.offsets = [0]
        self._chunk = np.zeros(BYTES_CHUNK // np.dtype(dtype).itemsize, dtype)
        self._held = 0
        self._array = PackArray(
            group,
            name,
            chunk=self._chunk.shape,
            shard=SHARD_BYTES // BYTES_CHUNK,
            dtype=dtype,
            compressed=compressed,
        )

    def append(self, piece: NDArray[Any]) -> int:
        """Add a piece; return its number."""
        self.offsets.append(self.offsets[-1] + piece.size)
        while piece.size:
            part = piece[: self._chunk.size - self._held]
            self._chunk[self._held : self._held + part.size] = part
            self._held += part.size
            piece = piece[part.size :]
            if self._held == self._chunk.size:
                self._array.append(self._chunk)
                self._held = 0
        return len(self.offsets) - 2

    def close(self) -> None:
        if self._held:
            self._chunk[self._held :] = 0
            self._array.append(self._chunk)
        self._array.close(self.offsets[-1])
