"""Remake what is made by machine in docs/event-inputs.md: the picture and the table of statistics.

Run by `make docs`. Both come from real recordings and are left alone where those are not at hand.
"""

from __future__ import annotations

import re
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from make_representations import BOX, DOCS, LENGTH_US, PICTURES, RECORDING, START_US, row, save, say
from numpy.typing import NDArray
from torch import Tensor

import eventkit
from eventkit import Events
from eventkit.clip_settings import ClipSettings
from eventkit.render.canvas import resized
from eventkit.representations.clip import clip_windows
from velora.frames.pictures import resize
from velora.inputs import EventInput, resolve

PAGE = DOCS / "event-inputs.md"
PAIRS = RECORDING.parents[1] / "nmnist_pairs.zip"
# Input and representation, in the order of the page.
SHOWN = (
    ("redblue", "counts:eventkit"),
    ("counts", "counts:eventkit"),
    ("redblue", "voxel:zhu"),
    ("voxel", "voxel:zhu"),
    ("surface", "surface:sae"),
    ("surface", "surface:tore"),
    ("picture", "image:event-ahu"),
    ("picture", "image:tencode"),
    ("counts", "binary:sstformer"),
)
BINS = 4
ZOOM = 2


def main() -> None:
    """Rewrite the table and the picture; say what was done."""
    if not (RECORDING.is_file() and PAIRS.is_file()):
        say(f"{PAGE.name} left as it is: {RECORDING.parents[1]} is not here")
        return
    torch.set_num_threads(1)
    recording = eventkit.open(RECORDING)
    assert recording.sensor_size is not None
    start = int(recording.events.t[0]) + START_US
    first, last = np.searchsorted(recording.events.t, [start, start + LENGTH_US])
    events = recording.events[first:last]
    drawn = save(PICTURES / "event-inputs.png", sheet(events, start, recording.sensor_size))
    say(f"event-inputs.png: {'drawn' if drawn else 'as it was'}")
    text = PAGE.read_text()
    made = re.sub(
        r"<!-- statistics -->\n.*?<!-- end -->",
        lambda _: f"<!-- statistics -->\n{table()}\n<!-- end -->",
        text,
        flags=re.DOTALL,
    )
    PAGE.write_text(made)
    say(f"{PAGE.name}: {'rewritten' if made != text else 'as it was'}")


def painted(
    pair: tuple[str, str],
    events: Events,
    *,
    span: tuple[int, int],
    size: tuple[int, int],
    bins: int,
) -> tuple[EventInput, Tensor, NDArray[np.generic]]:
    """Return the input, the (T, 3, H, W) pictures of a span, and the frames they come from."""
    settings = ClipSettings(representation=pair[1], bins=bins)
    made = settings.make_representation()
    windows = clip_windows(made, start=span[0], stop=span[1], bins=bins)
    filling = made.accumulator(windows, sensor_size=size)
    filling.update(events)
    frames = np.ascontiguousarray(made.as_stored(filling.finish()))
    chosen = resolve(pair[0], settings.representation)
    return chosen, chosen.paint(torch.from_numpy(frames)), frames


def sheet(events: Events, start: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Draw a row for each input: four windows and the difference of the last two."""
    x, y, width, height = BOX
    rows = []
    for pair in SHOWN:
        span = (start, start + LENGTH_US)
        _, pictures, _ = painted(pair, events, span=span, size=size, bins=BINS)
        shown = torch.cat([pictures, pictures[-2:].diff(dim=0).abs()])
        box = (255 * shown[:, :, y : y + height, x : x + width]).round().byte()
        cells = [
            resized(cell, (ZOOM * height, ZOOM * width), ink=False)
            for cell in box.permute(0, 2, 3, 1).numpy()
        ]
        texts = [f"{pair[0]} of {pair[1]}", "", "", "", "difference of the last two"]
        rows.append(row(cells, texts))
    return np.concatenate(rows)


def table() -> str:
    """Return a row of statistics for each input and recording."""
    lines = [
        "| input | of | driving: mean | std | digits: mean | std |",
        "|---|---|---|---|---|---|",
    ]
    for pair in SHOWN:
        cells = []
        for clips in (driving, digits):
            means, squares, count = torch.zeros(3), torch.zeros(3), 0
            for pictures in clips(pair):
                means += pictures.mean(dim=(2, 3)).sum(0)
                squares += pictures.square().mean(dim=(2, 3)).sum(0)
                count += len(pictures)
            mean = means / count
            std = (squares / count - mean.square()).sqrt()
            cells += [" ".join(f"{v:.2f}" for v in values.tolist()) for values in (mean, std)]
        lines.append(f"| `{pair[0]}` | `{pair[1]}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def driving(pair: tuple[str, str]) -> Iterator[Tensor]:
    """Yield clips of 300 ms of the DAVIS recording in 8 bins, at 224 pixels."""
    recording = eventkit.open(RECORDING)
    assert recording.sensor_size is not None
    events, length = recording.events, 300_000
    for start in range(int(events.t[0]), int(events.t[-1]) - length, length):
        first, last = np.searchsorted(events.t, [start, start + length])
        span = (start, start + length)
        part = events[first:last]
        _, pictures, _ = painted(pair, part, span=span, size=recording.sensor_size, bins=8)
        yield resize(pictures, (224, 224))


def digits(pair: tuple[str, str]) -> Iterator[Tensor]:
    """Yield the 100 test recordings of the N-MNIST pairs in 3 bins, at 70 pixels."""
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(PAIRS) as archive:
        for name in sorted(archive.namelist()):
            if "test/" in name and name.endswith(".bin"):
                events = eventkit.open(Path(archive.extract(name, folder))).events
                span = (int(events.t[0]), int(events.t[-1]) + 1)
                _, pictures, _ = painted(pair, events, span=span, size=(34, 34), bins=3)
                yield resize(pictures, (70, 70))


if __name__ == "__main__":
    main()
