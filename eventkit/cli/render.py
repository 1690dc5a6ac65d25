"""``eventkit render``: one clip of a shards folder as a picture."""

from __future__ import annotations

from pathlib import Path

import click

from eventkit.errors import SettingsError
from eventkit.render import clip_sheet, save_png
from eventkit.samples import decode_images
from eventkit.shards import ShardSet


@click.command(name="render")
@click.argument("shards", type=click.Path(path_type=Path), default="shards")
@click.option("--out", type=click.Path(path_type=Path), default="clip.png", show_default=True)
@click.option("--split", default="train", show_default=True)
@click.option("--index", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--scale", type=click.IntRange(1, 64), help="Enlargement.  [default: by size]")
def command(shards: Path, out: Path, split: str, index: int, scale: int | None) -> None:
    """Draw RGB, events and both differences of one clip of SHARDS as a PNG."""
    opened = ShardSet.open(shards)
    try:
        count = opened.num_samples(split)
        if index >= count:
            msg = f"expected --index below {count}, the samples of {split}, got {index}"
            raise SettingsError(msg)
        sample = opened.sample(split, index)
    finally:
        opened.close()
    name = opened.class_names.get(sample.label, "no label")
    # A missing sense is stored as zeros, and a black row would pass for a dark picture.
    has_rgb, has_events = (bool(sample.meta.get(key, True)) for key in ("has_rgb", "has_events"))
    sheet = clip_sheet(
        rgb=decode_images(sample.rgb) if has_rgb else None,
        events=sample.events if has_events else None,
        diff_events=sample.diff_events if has_events else None,
        diff_rgb=sample.diff_rgb if has_rgb else None,
        title=f"{sample.key}, class {name}",
        scale=scale,
    )
    save_png(out, sheet)
    click.echo(f"{out}: {sample.key}, class {name}, {len(sample.events)} bins")
