"""Twelve clips to look at, spread over the classes, small enough to be part of a page."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventkit._optional import require
from eventkit.errors import EventKitError
from eventkit.html import Markup, element, picture
from eventkit.location import Location
from eventkit.render.canvas import resized
from eventkit.render.scene import Row, Scene, rows_of
from eventkit.render.stored import scene_of_shards, scene_of_store
from eventkit.shards import ShardSet
from eventkit.store import Store
from pipelines.kinds import kind_of
from pipelines.receipts import read_plan
from pipelines.report.facts import store_receipts
from pipelines.report.words import cut, number
from pipelines.tally import whole

SHOWN = 12
_SIDE = 144
"""Pixels of the longer side; 12 x 4 pictures of noise of this size take 1.2 MB in the page."""
_SMALL = 96
_COLOURS = 64
_SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class _Pick:
    """The clip with this number among those of a label; splits one after the other."""

    label: int
    number: int


def cards(folder: Location, names: Mapping[int, str]) -> Iterator[Markup]:
    """Yield a figure a clip: RGB and events of one window, below them what changed.

    The window is that with the most events. A clip that cannot be read says so in its place.
    """
    scenes = _of_store(folder) if kind_of(folder) == "store" else _of_shards(folder)
    for label, found in scenes:
        name = names.get(label, "no label")
        if isinstance(found, Scene):
            yield _card(found, name)
        else:
            yield element("figure", element("p", f"{cut(name)}: {cut(found)}", class_="warn"))


def picks(counts: Mapping[int, int]) -> list[_Pick]:
    """Choose clips: as many classes as there is room for, then more of each, evenly apart.

    Parameters
    ----------
    counts : mapping label -> clips
    """
    labels = sorted(label for label, n in counts.items() if n)
    if len(labels) > SHOWN:
        labels = [labels[i * len(labels) // SHOWN] for i in range(SHOWN)]
    chosen: Counter[int] = Counter()
    while chosen.total() < min(SHOWN, sum(counts[label] for label in labels)):
        for label in labels:
            if chosen[label] < counts[label] and chosen.total() < SHOWN:
                chosen[label] += 1
    return [
        _Pick(label, i * counts[label] // chosen[label])
        for label in labels
        for i in range(chosen[label])
    ]


def _of_store(folder: Location) -> Iterator[tuple[int, Scene | str]]:
    """Yield label and scene; only the packs that hold one of the picks are opened."""
    receipts = [r for r in store_receipts(folder, read_plan(folder) or {}) if r["clips"]]
    packs: list[tuple[str, Counter[int]]] = []
    for receipt in receipts:
        labels: Counter[int] = Counter()
        for counts in receipt.get("tally", {"classes": {}})["classes"].values():
            labels.update(whole(counts))
        packs.append((receipt["name"], labels))
    everything: Counter[int] = Counter()
    for _, labels in packs:
        everything.update(labels)
    for pick in picks(everything):
        before = 0
        for name, labels in packs:
            if pick.number < before + labels[pick.label]:
                yield pick.label, _read_pack(folder, name, pick.label, pick.number - before)
                break
            before += labels[pick.label]


def _read_pack(folder: Location, name: str, label: int, position: int) -> Scene | str:
    try:
        store = Store(folder, [name])
        index = int(np.flatnonzero(store.pack(name).labels == label)[position])
        return scene_of_store(store, index)
    except (EventKitError, IndexError, OSError) as err:
        return str(err).replace(f"{folder}/", "")


def _of_shards(folder: Location) -> Iterator[tuple[int, Scene | str]]:
    """Yield label and scene; samples stand in the order of a hash, so neighbours are strangers."""
    shards = ShardSet.open(folder if isinstance(folder, Path) else str(folder))
    splits = [split for split in _SPLITS if split in shards.splits]
    counts: Counter[int] = Counter()
    for facts in shards.manifest["splits"].values():
        counts.update(whole(facts["classes"]))
    for pick in picks(counts):
        left = pick.number
        for split in splits:
            here = int(shards.manifest["splits"][split]["classes"].get(str(pick.label), 0))
            if left < here:
                yield pick.label, _read_sample(shards, split, pick.label, left)
                break
            left -= here
    shards.close()


def _read_sample(shards: ShardSet, split: str, label: int, position: int) -> Scene | str:
    try:
        index = int(np.flatnonzero(shards.labels(split) == label)[position])
        return scene_of_shards(shards, split, index)
    except (EventKitError, IndexError, OSError) as err:
        return str(err).replace(f"{shards.path}/", "")


def _card(scene: Scene, name: str) -> Markup:
    window = _window(scene)
    rows = rows_of(scene)
    senses = [row for row in rows if row.name in ("RGB", "events")]
    figures = []
    for row in senses:
        difference = next((r for r in rows if r.name == f"|d{row.name}|"), None)
        pictures = [_picture(row, window, scene, f"{_SAYS[row.name]} of {cut(name)}")]
        if difference is not None:
            text = f"change of the {_SAYS[row.name]} to the window before"
            pictures.append(_picture(difference, window, scene, text))
        figures.append(element("div", element("span", row.name, class_="faint"), *pictures))
    when = ""
    if scene.windows_us is not None:
        start, stop = (int(t) for t in scene.windows_us[window])
        span = f"{number(start)} to {number(stop)} \N{MICRO SIGN}s"
        when = f"window {window + 1} of {scene.bins}, {span}"
    title = scene.title.split(", class ")[0]
    return element(
        "figure",
        element("div", *figures, class_="senses"),
        element(
            "figcaption",
            element("strong", cut(name)),
            element("span", cut(title), class_="faint"),
            element("span", when, class_="faint"),
        ),
    )


_SAYS = {"RGB": "RGB picture", "events": "events"}


def _window(scene: Scene) -> int:
    """Return the window with the most in it; the first one has no change before it."""
    if scene.events is None or scene.bins == 1:
        return scene.bins // 2
    sums = np.abs(scene.events[1:].astype(np.float64)).sum(axis=(1, 2, 3))
    return 1 + int(np.argmax(sums))


def _picture(row: Row, window: int, scene: Scene, alt: str) -> Markup:
    pixels = row.pictures[window - (scene.bins - len(row.pictures))]
    height, width = pixels.shape[:2]
    longer = max(height, width)
    if longer > _SIDE:
        size = max(1, height * _SIDE // longer), max(1, width * _SIDE // longer)
        pixels = resized(pixels, size, ink=row.ink)
    photo = not row.ink and longer > _SMALL
    data = _jpeg(pixels) if photo else _png(pixels)
    class_ = "small" if longer <= _SMALL else None
    return picture(data, kind="jpeg" if photo else "png", alt=alt, class_=class_)


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    return _saved(pixels, format="JPEG", quality=85)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode with a palette: marks on paper have few colours, and a crowd of them many bytes."""
    return _saved(pixels, colours=_COLOURS, format="PNG", optimize=True)


def _saved(pixels: NDArray[np.uint8], *, colours: int | None = None, **how: Any) -> bytes:
    pil = require("PIL.Image", extra="images", purpose="the pictures of a report")
    image = pil.fromarray(np.ascontiguousarray(pixels))
    if colours is not None:
        image = image.quantize(colours, dither=pil.Dither.NONE)
    buffer = io.BytesIO()
    image.save(buffer, **how)
    return buffer.getvalue()
