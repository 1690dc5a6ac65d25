"""``eventkit simulate``: pictures or a video in, recordings of two simulated cameras out."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from eventkit._optional import require
from eventkit.cli.options import SIZE, HereType
from eventkit.cli.text import counted, echo
from eventkit.errors import FormatError, MissingDataError, SettingsError
from eventkit.frames import to_uint8
from eventkit.motion import resize_to_view
from eventkit.readers.base import ReadOptions
from eventkit.readers.images.reader import IMAGE_SUFFIXES, load_picture
from eventkit.readers.images.video import VideoReader
from eventkit.simulate import (
    DEGRADATIONS,
    Degradation,
    SimulatedClip,
    SimulationSettings,
    degraded,
    simulate_clip,
    simulate_film,
)
from eventkit.sources import Source

_SUFFIXES = (*IMAGE_SUFFIXES, *VideoReader.suffixes)
_VIDEO_FRAMES_AT_ONCE = 32
_PROGRESS_EVERY_S = 5.0


@click.command(name="simulate")
@click.argument("source", metavar="SRC", type=HereType(path_type=Path))
@click.option("--out", required=True, type=HereType(path_type=Path), help="Folder to make.")
@click.option("--size", type=SIZE, default="64x64", show_default=True, help="Camera pixels.")
@click.option(
    "--duration-us",
    type=click.IntRange(min=1),
    help="Length of a recording.  [default: 300000; a video as long as it is]",
)
@click.option("--fps", type=float, default=30.0, show_default=True, help="RGB images a second.")
@click.option(
    "--threshold",
    type=float,
    default=0.2,
    show_default=True,
    help="Change of log intensity that makes an event.",
)
@click.option(
    "--noise-hz",
    type=float,
    default=0.1,
    show_default=True,
    help="Background events per pixel and second.",
)
@click.option(
    "--degrade",
    type=click.Choice(["none", "rgb", "events", "mix"]),
    default="none",
    show_default=True,
    help="Make one sense hard to use; mix: a third good, a third rgb, a third events.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
def command(
    source: Path,
    out: Path,
    size: tuple[int, int],
    duration_us: int | None,
    fps: float,
    threshold: float,
    noise_hz: float,
    degrade: str,
    seed: int,
) -> None:
    """Film SRC with a simulated event camera and an RGB camera beside it.

    SRC is an image, a video, or a folder of them in any tree; an image is moved in saccades, a
    video is shown as it is. DIR mirrors the tree: STEM.npz holds the events (t, x, y, p,
    sensor_size), the folder STEM the RGB images and timestamps.txt with their exposures.
    """
    settings = SimulationSettings(
        size=size,
        duration_us=duration_us or SimulationSettings().duration_us,
        fps=fps,
        threshold_on=threshold,
        threshold_off=threshold,
        noise_hz=noise_hz,
    )
    inputs = _find_inputs(source)
    _check_out(out, source)
    partial = out.absolute().parent / f".{out.name}.{os.getpid()}.partial"
    began = said = time.monotonic()
    total = counted(len(inputs), "recordings")
    echo(f"simulating {total} of {size[0]}x{size[1]} pixels into {out}")
    try:
        for done, (relative, path) in enumerate(inputs.items(), 1):
            rng = recording_rng(seed, relative)
            kind = _degradation(degrade, relative)
            setting = degraded(settings, kind, rng=rng)
            if path.suffix.lower() in VideoReader.suffixes:
                clip = simulate_film(
                    _video_pieces(path, size=size, limit_us=duration_us), settings=setting, rng=rng
                )
            else:
                clip = simulate_clip(_rgb(path), settings=setting, rng=rng)
            note = f"simulated: seed {seed}, threshold {threshold:g}, degradation {kind}"
            _write(clip, partial / Path(relative).with_suffix(""), note=note)
            now = time.monotonic()
            if now - said >= _PROGRESS_EVERY_S and done < len(inputs):
                said = now
                echo(f"{done:,} of {total}, {done / (now - began):.1f} a second")
        # The folder appears whole or not at all: no later command can take a part for it.
        if out.exists():
            out.rmdir()
        partial.replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    echo(f"wrote {total} to {out} in {time.monotonic() - began:.1f} s")


def recording_rng(seed: int, relative: str) -> np.random.Generator:
    """Return the generator of one recording.

    It depends on the seed and the relative path alone, so neither the order nor the number of the
    recordings changes any of them.
    """
    digest = hashlib.sha256(f"{seed}\0{relative}".encode()).digest()
    return np.random.default_rng(np.random.SeedSequence(np.frombuffer(digest, "<u4").tolist()))


def degradation_of(relative: str) -> Degradation:
    """Return which third of a mixed set a recording belongs to, by the hash of its path."""
    digest = hashlib.sha256(f"mix\0{relative}".encode()).digest()
    return DEGRADATIONS[int.from_bytes(digest[:8], "little") % len(DEGRADATIONS)]


def _degradation(choice: str, relative: str) -> Degradation:
    if choice == "mix":
        return degradation_of(relative)
    return "rgb" if choice == "rgb" else "events" if choice == "events" else "good"


def _find_inputs(source: Path) -> dict[str, Path]:
    """Map each recording's relative path, in sorted order, to its file."""
    if not source.exists():
        msg = f"{source}: no such file or folder"
        raise MissingDataError(msg)
    if source.is_file():
        if source.suffix.lower() not in _SUFFIXES:
            msg = f"{source}: expected an image or a video ({', '.join(_SUFFIXES)})"
            raise SettingsError(msg)
        return {source.name: source}
    found = {
        path.relative_to(source).as_posix(): path
        for path in source.rglob("*")
        if path.suffix.lower() in _SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(source).parts)
    }
    if not found:
        msg = f"{source}: expected images or videos ({', '.join(_SUFFIXES)}), found none"
        raise MissingDataError(msg)
    inputs = dict(sorted(found.items()))
    _check_outputs(inputs)
    return inputs


def _check_outputs(inputs: dict[str, Path]) -> None:
    taken: dict[Path, str] = {}
    for relative in inputs:
        target = Path(relative).with_suffix("")
        if target in taken:
            msg = f"expected one file for each stem, got {taken[target]} and {relative}; rename one"
            raise SettingsError(msg)
        taken[target] = relative
    for target, relative in taken.items():
        above = next((parent for parent in target.parents if parent in taken), None)
        if above is not None:
            msg = (
                f"{taken[above]} would be written into the folder that {relative} is in; rename one"
            )
            raise SettingsError(msg)


def _check_out(out: Path, source: Path) -> None:
    if out.exists() and not out.is_dir():
        msg = f"{out}: expected a folder for --out, got a file"
        raise SettingsError(msg)
    if out.is_dir() and any(out.iterdir()):
        msg = f"{out} is not empty; remove it or give another --out"
        raise SettingsError(msg)
    if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        msg = f"{out} lies in {source}, whose images are read; give an --out outside of it"
        raise SettingsError(msg)


def _rgb(path: Path) -> NDArray[np.uint8]:
    pixels = to_uint8(load_picture(path).pixels)
    return pixels[:, :, 0] if pixels.shape[2] == 1 else pixels


def _video_pieces(
    path: Path, *, size: tuple[int, int], limit_us: int | None
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    frames = VideoReader().open(Source(path), ReadOptions()).frames
    assert frames is not None
    if len(frames) < 2 or (np.diff(frames.t_us) <= 0).any():
        got = counted(len(frames), "frames")
        msg = f"expected at least two frames at increasing times, got {got}"
        raise FormatError(msg, path=path, reason="bad_value")
    stop = len(frames)
    if limit_us is not None:
        stop = max(2, int(np.searchsorted(frames.t_us, limit_us, side="right")))
    pictures = frames.pictures(range(stop))
    for start in range(0, stop, _VIDEO_FRAMES_AT_ONCE):
        times = frames.t_us[start : min(start + _VIDEO_FRAMES_AT_ONCE, stop)]
        views = [resize_to_view(to_uint8(next(pictures).pixels), size=size) for _ in times]
        yield np.stack(views), times


def _write(clip: SimulatedClip, stem: Path, *, note: str) -> None:
    pil = require("PIL.Image", extra="images", purpose="writing RGB images")
    stem.mkdir(parents=True)
    lines = ["# name t_start_us t_stop_us", f"# {note}"]
    exposures = zip(clip.start_us.tolist(), clip.stop_us.tolist(), strict=True)
    for number, (image, (start, stop)) in enumerate(zip(clip.images, exposures, strict=True)):
        name = f"{number:08d}.png"
        pil.fromarray(image).save(stem / name)
        lines.append(f"{name} {start} {stop}")
    (stem / "timestamps.txt").write_text("\n".join(lines) + "\n", "utf-8", newline="\n")
    # NumPy stamps its archives with a fixed date, so the same events are the same bytes.
    archive = io.BytesIO()
    np.savez_compressed(
        archive,
        t=clip.events.t,
        x=clip.events.x,
        y=clip.events.y,
        p=clip.events.p.astype(np.uint8),
        sensor_size=np.array(clip.sensor_size, np.int64),
    )
    stem.with_name(f"{stem.name}.npz").write_bytes(archive.getvalue())
