"""Remake what is made by machine in docs/representations.md: the table, the facts, the pictures.

Run by `make docs`. Facts stand between ``<!-- facts NAME -->`` and ``<!-- end -->`` and come from
the classes; the pictures show the same 100 ms of one recording and are left alone where that is
not at hand.
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import eventkit
from eventkit.clip_settings import stored_form
from eventkit.render import over, paint
from eventkit.render.canvas import GAP, LINE_HEIGHT, Pen, blank, resized
from eventkit.render.colours import event_picture
from eventkit.render.scene import is_shaded
from eventkit.render.times import captions
from eventkit.representations import Representation, make, names
from eventkit.representations.clip import own_windows
from eventkit.slicing import equal_edges
from eventkit.windows import Windows, windows_of_edges

DOCS = Path(__file__).resolve().parent
PAGE = DOCS / "representations.md"
PICTURES = DOCS / "pictures"
RECORDING = DOCS.parent.parent / "shared" / "data" / "aedat4" / "davis346_frames_events_imu.aedat4"

START_US, LENGTH_US, BINS = 2_200_000, 100_000, 4
BOX = (190, 135, 110, 85)
"""The part of the sensor with the cars: x, y, width, height."""
WIDTH = 220
"""Pixels of one picture, which are enlarged by a whole factor."""
COLOURS = 128
EXAMPLE = (346, 260)
MASS = {"counts": "number of events", "signs": "sum of signs", "none": "none"}


def main() -> None:
    """Rewrite the page and the pictures; say what was done."""
    text = PAGE.read_text()
    made = filled(text)
    if made != text:
        PAGE.write_text(made)
    say(f"{PAGE.name}: {'rewritten' if made != text else 'as it was'}")
    if not RECORDING.is_file():
        say(f"pictures left as they are: {RECORDING} is not here")
        return
    changed = [name for name, pixels in pictures() if save(PICTURES / f"{name}.png", pixels)]
    say(f"pictures: {', '.join(changed) or 'as they were'}")


def filled(text: str) -> str:
    """Return the page with its facts as the code has them."""

    def block(match: re.Match[str]) -> str:
        name = match[1]
        return f"<!-- facts {name} -->\n{table() if name == 'all' else facts(name)}\n<!-- end -->"

    return re.sub(r"<!-- facts (\S+) -->\n.*?<!-- end -->", block, text, flags=re.DOTALL)


def table() -> str:
    """Return one row for each of our names."""
    rows = ["| name | one window | dtype | in the store | keeps |", "|---|---|---|---|---|"]
    for name in ours():
        made = make(name)
        frame = f"{sizes(shape_of(made))}" + (", bins of its own" if made.stack else "")
        stored = stored_form(made, bins=8, sensor_size=EXAMPLE)[0]
        rows.append(
            f"| [`{name}`](#{anchor(name)}) | {frame} | {made.frame_dtype} | "
            f"{sizes(stored, bins=None if made.stack else 8)} | {MASS[made.mass]} |"
        )
    return "\n".join(rows)


def facts(name: str) -> str:
    """Return the facts and the picture of one name."""
    made = make(name)
    settings = ", ".join(f"`{field.name}={getattr(made, field.name)}`" for field in fields(made))
    return "\n".join(
        [
            f"- **Frame** {sizes(shape_of(made))} {made.frame_dtype}; "
            + ("a stack: bins of its own in each window" if made.stack else "one for each window"),
            f"- **Settings** {settings or 'none'}",
            f"- **Mass** {MASS[made.mass]}",
            "",
            f"![{name}](pictures/{slug(name)}.png)",
        ]
    )


def ours() -> tuple[str, ...]:
    """Return the names that come with this package."""
    return tuple(name for name in names() if type(make(name)).__module__.startswith("eventkit."))


def shape_of(made: Representation) -> tuple[int, ...]:
    """Return the shape of one window on the example sensor."""
    return made.frame_shape(EXAMPLE)


def sizes(shape: tuple[int, ...], *, bins: int | None = None) -> str:
    """Write a shape with T, H and W where they are those of the example."""
    words = [str(side) for side in shape]
    if shape[-2:] == (EXAMPLE[1], EXAMPLE[0]):
        words[-2:] = ["H", "W"]
    if bins is not None and shape[0] == bins:
        words[0] = "T"
    return f"({', '.join(words)})"


def anchor(name: str) -> str:
    """Return where the page's section of a name is."""
    return re.sub(r"[^a-z0-9-]", "", name)


def slug(name: str) -> str:
    """Return a name as a file name."""
    return name.replace(":", "-")


def pictures() -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield file name and pixels of every picture."""
    recording = eventkit.open(RECORDING)
    assert recording.sensor_size is not None
    start = int(recording.events.t[0]) + START_US
    first, last = np.searchsorted(recording.events.t, [start, start + LENGTH_US])
    events = recording.events[first:last]
    yield "scene", scene(recording, events, start)
    for name in ours():
        yield slug(name), picture(make_shown(name), events, start, recording.sensor_size)


def make_shown(name: str) -> Representation:
    """Return a representation with few bins, so that they can be seen."""
    stack = make(name).stack
    return make(name, bins=BINS) if stack else make(name)


def scene(recording: Any, events: Any, start: int) -> NDArray[np.uint8]:
    """Draw the events of the whole time over the frame in its middle."""
    middle = int(np.abs(recording.frames.t_us - start - LENGTH_US // 2).argmin())
    pixels = next(recording.frames.pictures([middle])).pixels
    gray = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
    counts = eventkit.count_frames(events, sensor_size=recording.sensor_size)
    both = over(event_picture(counts), gray)
    x, y, width, height = BOX
    box = both[y : y + height, x : x + width]
    texts = ["100 ms of events over a frame", "the part that is shown below"]
    return row([both[y - 25 :], resized(box, (height * 2, width * 2), ink=False)], texts)


def picture(
    made: Representation, events: Any, start: int, size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Draw the frames of the 100 ms: four windows, or one window and its bins."""
    stop = start + LENGTH_US
    spans = own_windows(made, start=start, stop=stop, bins=BINS)
    if spans is None:
        spans = windows_of_edges(equal_edges(start, stop, 1 if made.stack else BINS))
    accumulator = made.accumulator(Windows(spans), sensor_size=size)
    accumulator.update(events)
    frames = made.as_stored(accumulator.finish())
    zoom = round(WIDTH * size[0] / (BOX[2] * frames.shape[3]))
    painted = paint(cut(frames, size), shaded=is_shaded(made.name))
    cells = [resized(p, (p.shape[0] * zoom, p.shape[1] * zoom), ink=False) for p in painted]
    windows = None if made.stack else spans - start
    if windows is not None and cells[0].shape[1] > 2 * WIDTH:
        cells, windows = cells[-1:], windows[-1:]  # tiles
    return row(cells, captions(windows, len(cells), cells[0].shape[1]))


def cut(frames: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Cut the part with the cars out of frames (T, C, h, w); h and w may be a grid of cells."""
    x, y, width, height = BOX
    down, across = frames.shape[2] / size[1], frames.shape[3] / size[0]
    rows = slice(int(y * down), int((y + height) * down))
    return frames[:, :, rows, int(x * across) : int((x + width) * across)]


def row(cells: list[NDArray[np.uint8]], texts: list[str]) -> NDArray[np.uint8]:
    """Lay pictures side by side, with words over them."""
    high, wide = max(c.shape[0] for c in cells), sum(c.shape[1] + GAP for c in cells)
    sheet, pen, x = blank(LINE_HEIGHT + high + GAP, wide + GAP), Pen(), GAP
    for cell, text in zip(cells, texts, strict=True):
        pen.write((x, 0), text)
        sheet[LINE_HEIGHT : LINE_HEIGHT + cell.shape[0], x : x + cell.shape[1]] = cell
        x += cell.shape[1] + GAP
    return pen.draw(sheet)


def save(path: Path, pixels: NDArray[np.uint8]) -> bool:
    """Write a small PNG unless the one that is there looks the same; return whether it did.

    Libraries of another version may compress differently, which should not change the file.
    """
    image = Image.fromarray(pixels).quantize(COLOURS, dither=Image.Dither.NONE)
    seen = np.asarray(image.convert("RGB"))
    if path.is_file() and np.array_equal(np.asarray(Image.open(path).convert("RGB")), seen):
        return False
    data = io.BytesIO()
    image.save(data, format="PNG", optimize=True)
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_bytes(data.getvalue())
    partial.replace(path)
    return True


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    main()
