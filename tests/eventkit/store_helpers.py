"""Small packs and stores, written by hand as `eventkit convert` leaves them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eventkit import packs
from eventkit.clips import Clip
from eventkit.differences import frame_difference
from eventkit.samples import encode_png
from eventkit.store import Pack

BINS = 3


def make_clip(
    i: int, *, encoded: bool = False, dtype: str = "u1", events: bool = True, diffs: bool = True
) -> Clip:
    rng = np.random.default_rng(i)
    counts = rng.integers(0, 9, (BINS, 2, 5, 7)).astype(dtype) * events
    rgb = rng.integers(0, 256, (BINS, 4, 6, 3)).astype(np.uint8)
    files = tuple(encode_png(pixels) for pixels in rgb)
    binned = counts.sum(axis=(1, 2, 3)).astype(np.int64)
    return Clip(
        index=i,
        events=counts,
        rgb=rgb,
        windows_us=np.array([[10 * b, 10 * b + 10] for b in range(BINS)]),
        exposure_us=np.array([[10 * b, 10 * b + 5] for b in range(BINS)]),
        rgb_index=np.arange(BINS),
        binned=binned,
        clipped=np.zeros(BINS, np.int64),
        decoded=int(binned.sum()) + i,
        dropped={"outside": i} if i else {},
        has_events=events,
        has_rgb=True,
        rgb_static=False,
        rgb_times="recorded",
        # The first and the last picture are the same file.
        encoded=(files[0], files[1], files[0]) if encoded else None,
        rgb_suffix="png" if encoded else "",
        diff_events=frame_difference(counts) if diffs else None,
        diff_rgb=frame_difference(rgb) if diffs else None,
        flags=("rgb_fallback",) if i == 1 else (),
    )


def write_pack(
    path: Path, clips: list[Clip], *, facts: Sequence[Mapping[str, Any]] | None = None
) -> int:
    writer = packs.PackWriter(path, attributes={"settings": {"bins": BINS}}, clips=len(clips))
    for i, clip in enumerate(clips):
        own = {"id": f"clip{i}", "recording": "a/b", "split": "train"}
        own = dict(facts[i]) if facts else own
        writer.append(packs.ClipRecord(clip, label=own.pop("label", i - 1), facts=own))
    return int(writer.close())


def receipt(store: Path, name: str) -> dict[str, Any]:
    """Return what a finished pack says of itself: every file and its size."""
    files = sorted(file for file in (store / f"{name}.zarr").rglob("*") if file.is_file())
    return {
        "files": [
            {
                "path": file.relative_to(store).as_posix(),
                "bytes": file.stat().st_size,
                "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            }
            for file in files
        ],
        "clips": len(Pack(store / f"{name}.zarr")),
    }


def write_store(
    folder: Path,
    contents: dict[str, list[Clip]],
    *,
    facts: Sequence[Mapping[str, Any]] | None = None,
) -> Path:
    """Write packs, and by hand the plan and the receipts of a finished `eventkit convert`.

    ``facts`` of all clips, one after the other, have the label too.
    """
    left = list(facts or ())
    hidden = folder / ".eventkit"
    (hidden / "receipts").mkdir(parents=True)
    (hidden / "plan.json").write_text(json.dumps({"packs": [{"name": n} for n in contents]}))
    for name, clips in contents.items():
        write_pack(folder / f"{name}.zarr", clips, facts=left[: len(clips)])
        left = left[len(clips) :]
        (hidden / "receipts" / f"{name}.json").write_text(json.dumps(receipt(folder, name)))
    return folder
