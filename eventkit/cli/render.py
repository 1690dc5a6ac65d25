"""``eventkit render``: one clip of a recording, a store or shards as a picture or a film."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from eventkit.cli.options import RGB_OFFSET, RGB_TIME_UNIT, HereType, read_options
from eventkit.cli.text import counted, echo
from eventkit.errors import SettingsError

_SUFFIXES = (".png", ".gif", ".mp4")
_OF_EVENTS = ("spec", "bins")
_OF_RECORDINGS = (
    "start_us",
    "stop_us",
    "clip_us",
    "rgb",
    "rgb_offset_us",
    "sensor_size",
    "time_unit",
    "rgb_time_unit",
    "columns",
    "topic",
    "format",
)


@click.command(name="render")
@click.argument("source", type=HereType(path_type=Path), default="shards")
@click.option(
    "-o",
    "--out",
    type=HereType(path_type=Path),
    default="clip.png",
    show_default=True,
    help="A sheet (.png) or a film (.gif, .mp4).",
)
@click.option("--repr", "spec", help="NAME[,SETTING=VALUE...].  [default: counts:eventkit]")
@click.option("--bins", type=click.IntRange(min=1), help="Bins.  [default: 8]")
@click.option("--start-us", type=click.IntRange(min=0), help="From the first event.")
@click.option("--stop-us", type=click.IntRange(min=1), help="From the first event.")
@click.option("--clip-us", type=click.IntRange(min=1), help="Cut as convert does; see --index.")
@click.option(
    "--index", "--clip", type=click.IntRange(min=0), default=0, help="Which clip.  [default: 0]"
)
@click.option("--split", help="Of shards.  [default: train]")
@click.option("--overlay", is_flag=True, help="Events over RGB instead of beside it.")
@click.option("--scale", type=click.IntRange(1, 64), help="Enlargement.  [default: by size]")
@click.option("--fps", type=click.FloatRange(0.01, 1000), help="Of a film.  [default: 8]")
@click.option("--rgb", type=HereType(path_type=Path), help="RGB side in a file of its own.")
@RGB_TIME_UNIT
@RGB_OFFSET
@read_options
def command(
    source: Path,
    out: Path,
    split: str | None,
    index: int,
    overlay: bool,
    scale: int | None,
    fps: float | None,
    **options: Any,
) -> None:
    """Draw RGB, events and differences of one clip.

    SOURCE is a recording, a store of `convert` or the shards of `shard`. Bins stand side by side
    on a sheet and follow each other in a film.
    """
    from eventkit.render.files import check_place
    from eventkit.render.sources import kind_of

    suffix = _suffix(out, fps)
    check_place(out, [side for side in (source, options["rgb"]) if side is not None])
    # The default folder has words of its own for what is missing.
    kind = "shards" if source == Path("shards") and not source.exists() else kind_of(source)
    if kind != "recording":
        names = _OF_RECORDINGS if kind == "store" else _OF_EVENTS + _OF_RECORDINGS
        _refuse(kind, source, [name for name in names if options[name]])
    if kind != "shards" and split is not None:
        _refuse(kind, source, ["split"])
    if kind == "recording":
        scene = _of_recording(source, index, **options)
    elif kind == "store":
        scene = _of_store(source, index, options["spec"], options["bins"])
    else:
        scene = _of_shards(source, split or "train", index)
    _write(scene, out, suffix, overlay=overlay, scale=scale, fps=fps or 8.0)
    echo(f"{out}: {scene.title}, {counted(scene.bins, 'bins')}")


def _suffix(out: Path, fps: float | None) -> str:
    suffix = out.suffix.lower()
    if suffix not in _SUFFIXES:
        got = out.suffix or "no suffix"
        msg = f"expected --out to end in {', '.join(_SUFFIXES)}, got {got}"
        raise SettingsError(msg)
    if fps is not None and suffix == ".png":
        msg = "--fps goes with a film: give --out a name that ends in .gif or .mp4"
        raise SettingsError(msg)
    return suffix


def _refuse(kind: str, source: Path, given: list[str]) -> None:
    if not given:
        return
    option = {"spec": "--repr"}.get(given[0], "--" + given[0].replace("_", "-"))
    owner = "shards" if given[0] == "split" else "a recording"
    what = f"a {kind}" if kind != "shards" else kind
    msg = f"{option} goes with {owner}, {source} is {what}; leave it out"
    raise SettingsError(msg)


def _of_recording(
    source: Path,
    index: int,
    *,
    spec: str | None,
    bins: int | None,
    start_us: int | None,
    stop_us: int | None,
    clip_us: int | None,
    rgb: Path | None,
    rgb_offset_us: int,
    **how: Any,
) -> Any:
    import eventkit
    from eventkit.render.sources import scene_of_recording

    if clip_us is not None and (start_us is not None or stop_us is not None):
        msg = "expected --clip-us with --index, or --start-us and --stop-us, got both"
        raise SettingsError(msg)
    if clip_us is None and index:
        msg = f"{source} is one clip without --clip-us; give it, or leave --index out"
        raise SettingsError(msg)
    settings = _settings(spec, bins, clip_us, rgb_offset_us)
    recording = eventkit.open(source, rgb=rgb, **how)
    return scene_of_recording(
        recording, settings, start_us=start_us or 0, stop_us=stop_us, index=index
    )


def _of_store(source: Path, index: int, spec: str | None, bins: int | None) -> Any:
    from eventkit.render.stored import scene_of_store
    from eventkit.store import open_store

    settings = None if spec is None and bins is None else _settings(spec, bins)
    return scene_of_store(open_store(source), index, settings=settings)


def _settings(
    spec: str | None, bins: int | None, clip_us: int | None = None, rgb_offset_us: int = 0
) -> Any:
    from eventkit.clip_settings import ClipSettings

    return ClipSettings(
        bins=bins,  # type: ignore[arg-type]  # None: those of the spec
        representation=spec or "counts:eventkit",
        clip_us=clip_us,
        rgb_offset_us=rgb_offset_us,
    )


def _of_shards(source: Path, split: str, index: int) -> Any:
    from eventkit.render.stored import scene_of_shards
    from eventkit.shards import ShardSet

    opened = ShardSet.open(source)
    try:
        return scene_of_shards(opened, split, index)
    finally:
        opened.close()


def _write(
    scene: Any, out: Path, suffix: str, *, overlay: bool, scale: int | None, fps: float
) -> None:
    from eventkit.render import draw_film, draw_sheet, save_gif, save_mp4, save_png

    if suffix == ".png":
        save_png(out, draw_sheet(scene, overlay=overlay, scale=scale))
    elif suffix == ".gif":
        save_gif(out, draw_film(scene, overlay=overlay, scale=scale), fps=fps)
    else:
        save_mp4(out, draw_film(scene, overlay=overlay, scale=scale), fps=fps)
