"""The whole road on data this script makes: recordings -> frames -> shards -> trained models.

scikit-learn's handwritten digits are moved before a simulated event camera and an RGB camera. A
third of the recordings has an RGB side that is dark or out of focus, a third has few events in
much noise, a third is good, so neither sense alone is enough. Then the public commands run on the
files as they would on anyone's:

    eventkit convert raw --bins 4 --out store
    eventkit shard store --out shards
    velora-train --shards shards --recipe demo

The trunk is the small one that comes with the package; it has seen garments and letters, no digits.
Everything is written to one folder; run it again and what is finished is kept.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from eventkit.samples import sample_key
from eventkit.shards import ShardSet

BINS = 4
SIMULATE = ("--degrade", "mix", "--size", "64x64", "--threshold", "0.4", "--fps", "20")
STREAMS = ("fusion", "rgb", "event")
TRUNK = """The frozen trunk is velora_tiny, which comes with the package: 2.7 million
parameters that have seen garments and letters, no digits (docs/backbone.md). Adapters and
head are trained here. For a larger one: --backbone NAME, --weights FILE."""
_MADE_HERE = ("images", "raw", "store", "shards", "runs")


@dataclass(frozen=True)
class Stage:
    """One step of the road: how long it took and what it left."""

    name: str
    seconds: float
    folder: Path
    kept: bool = False


@dataclass(frozen=True)
class Result:
    """Accuracy of one trained model on the test clips."""

    streams: str
    top1: float
    error: float
    samples: int
    chance: float


@dataclass
class Demo:
    """The folder the demo works in, and what happened so far."""

    folder: Path
    stages: list[Stage] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)

    def run(self, name: str, folder: str, *command: str) -> list[str]:
        """Run a public command in the demo's folder, show its output, and return its lines."""
        say(f"\n$ {' '.join(command)}")
        began = time.monotonic()
        lines = run_command(command, cwd=self.folder)
        self.stages.append(Stage(name, time.monotonic() - began, self.folder / folder))
        return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, default=Path("demo"), help="working folder")
    parser.add_argument("--train", type=int, default=300, help="training clips")
    parser.add_argument("--test", type=int, default=100, help="test clips")
    parser.add_argument("--fresh", action="store_true", help="start again from nothing")
    options = parser.parse_args(arguments)
    demo = Demo(options.out.absolute())
    began = time.monotonic()
    try:
        make_recordings(demo, num_train=options.train, num_test=options.test, fresh=options.fresh)
        demo.run(
            "convert", "store", "eventkit", "convert", "raw", "--bins", str(BINS), "--out", "store"
        )
        demo.run("shard", "shards", "eventkit", "shard", "store", "--out", "shards")
        picture = draw_clip(demo)
        say(f"\n{TRUNK}")
        for streams in STREAMS:
            train(demo, streams)
    except subprocess.CalledProcessError as error:
        say(f"\nthe demo stops: {' '.join(error.cmd)} ended with exit code {error.returncode}")
        return int(error.returncode)
    except KeyboardInterrupt:
        say("\ninterrupted; run the same command again to go on")
        return 130
    say("\n" + "\n".join(summary(demo)))
    say(f"\none clip's RGB, events and differences: {picture}")
    say(f"{time.monotonic() - began:.0f} s in all; everything is in {demo.folder}")
    return 0


def make_recordings(demo: Demo, *, num_train: int, num_test: int, fresh: bool) -> None:
    """Write the digits as PNG files and film them, unless that is done."""
    if fresh:
        for name in _MADE_HERE:
            shutil.rmtree(demo.folder / name, ignore_errors=True)
    demo.folder.mkdir(parents=True, exist_ok=True)
    images, raw = demo.folder / "images", demo.folder / "raw"
    if raw.is_dir():
        say(f"{raw}: made before, kept (--fresh starts again)")
        demo.stages.append(Stage("simulate", 0.0, raw, kept=True))
        return
    if not images.is_dir():
        count = write_digits(images, num_train=num_train, num_test=num_test)
        say(f"{images}: {count} handwritten digits as PNG files")
    demo.run("simulate", "raw", "eventkit", "simulate", "images", "--out", "raw", *SIMULATE)


def write_digits(folder: Path, *, num_train: int, num_test: int) -> int:
    """Write digits as ``<split>/<digit>/<id>.png``, as many of each digit; return their number."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    # The folder appears when it is whole, so a run that was stopped here leaves nothing to trust.
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    written = 0
    for digit in range(10):
        own = order[digits.target[order] == digit]
        train, test = share(num_train, digit), share(num_test, digit)
        for number, index in enumerate(own[: train + test]):
            place = partial / ("train" if number < train else "test") / str(digit)
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(enlarged(digits.images[index])).save(place / f"{index:04d}.png")
            written += 1
    partial.replace(folder)
    return written


def share(total: int, digit: int) -> int:
    """Return how many of ``total`` clips show this digit."""
    return total // 10 + (digit < total % 10)


def enlarged(digit: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return an 8x8 digit with values 0..16 as a smooth (48, 48) picture with a dark border."""
    small = np.rint(digit * 255 / 16).astype(np.uint8)
    smooth = Image.fromarray(small).resize((32, 32), Image.Resampling.BICUBIC)
    return np.pad(np.asarray(smooth), 8)


def train(demo: Demo, streams: str) -> None:
    """Train one model with the public command and read its result."""
    command = ["velora-train", "--shards", "shards", "--recipe", "demo"]
    if streams != "fusion":
        command += ["--streams", streams]
    lines = demo.run(f"train {streams}", "runs", *command)
    said = [line for line in lines if line.startswith("run folder: ")]
    run = demo.folder / said[-1].removeprefix("run folder: ")
    demo.results.append(read_result(run / "result.json"))
    # All runs lie in one folder; the table wants the size of this one.
    demo.stages[-1] = Stage(f"train {streams}", demo.stages[-1].seconds, run)


def read_result(path: Path) -> Result:
    """Read the accuracy of the senses a model was trained on from its ``result.json``."""
    report = json.loads(path.read_text("utf-8"))
    score = next(s for s in report["scores"] if s["view"] == report["streams"])
    return Result(
        streams=report["streams"],
        top1=score["top1"],
        error=score["top1_error"],
        samples=score["samples"],
        chance=report["chance"],
    )


def draw_clip(demo: Demo) -> Path:
    """Draw a test clip whose senses are both good."""
    keys = ShardSet.open(demo.folder / "shards").keys("test").tolist()
    index = 0
    for times in sorted((demo.folder / "raw" / "test").glob("*/*/timestamps.txt")):
        recording = times.parent.relative_to(demo.folder / "raw").as_posix()
        if "degradation good" in times.read_text("utf-8") and sample_key(recording, 0) in keys:
            index = keys.index(sample_key(recording, 0))
            break
    chosen = ("--split", "test", "--index", str(index), "--out", "clip.png")
    say(f"\n$ eventkit render shards {' '.join(chosen)}")
    run_command(("eventkit", "render", "shards", *chosen), cwd=demo.folder)
    return demo.folder / "clip.png"


def summary(demo: Demo) -> list[str]:
    """Return the final tables as lines."""
    lines = [f"{'stage':<14}{'seconds':>9}{'MB':>9}  folder"]
    for stage in demo.stages:
        seconds = "kept" if stage.kept else f"{stage.seconds:.1f}"
        size_mb = folder_bytes(stage.folder) / 1e6
        place = stage.folder.relative_to(demo.folder)
        lines.append(f"{stage.name:<14}{seconds:>9}{size_mb:>9.1f}  {place}")
    lines += [
        "",
        TRUNK,
        "",
        f"{'trained on':<14}{'top-1':>7}{'error':>9}{'chance':>9}{'clips':>7}",
    ]
    for r in demo.results:
        lines.append(
            f"{r.streams:<14}{r.top1:>7.3f}{'+- ' + format(r.error, '.3f'):>9}"
            f"{r.chance:>9.3f}{r.samples:>7}"
        )
    return lines


def run_command(command: Sequence[str], *, cwd: Path) -> list[str]:
    """Run a console script of this environment, pass its output on, and return the lines."""
    script = Path(sys.executable).with_name(command[0])
    lines: list[str] = []
    with subprocess.Popen(
        [str(script), *command[1:]],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            say(f"  {lines[-1]}")
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(command))
    return lines


def folder_bytes(folder: Path) -> int:
    """Return the size of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def say(text: str) -> None:
    """Print at once, also where nobody's terminal is attached."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
