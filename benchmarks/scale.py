"""A set of many tiny clips through every stage: what a clip costs, and whether it stays so.

Recordings of 2,000 events on 34x34 in folders of ten classes, as N-MNIST has them; ``--most
100000`` goes that far. Every stage is the command in a process of its own. Where a plan is written
its first half ends: `convert` scans and plans before, `shard` plans before.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import common
import numpy as np

EVENTS = 2_000
SIDE = 34
SPAN_US = 300_000
CLASSES = 10
SIZES = (10**3, 10**4, 10**5)
RERUN_S = 10.0
"""Of 10^4 recordings, `convert` and `shard` together."""
FLAT = 1.25
"""A further clip may cost so much more in a set of 10^5 than in one of 10^4; a machine is noisy."""

READ = """
import sys
from eventkit import ShardSet
from eventkit.lanes import Lanes
shards = ShardSet.open(sys.argv[1])
for split in shards.splits:
    sizes = shards.shard_sizes(split)
    lanes = Lanes(shard_sizes=sizes, global_batch_size=1, seed=0, manifest_sha256=shards.digest)
    rows, _ = lanes.batches(0, rank=0, world_size=1, samples_consumed=0)
    for row in rows.ravel().tolist():
        shards.sample(split, row)
"""
OPEN = "import sys; from eventkit import ShardSet; s = ShardSet.open(sys.argv[1])\n"
OPEN += "for split in s.splits: s.shard_sizes(split)"


@dataclass(frozen=True)
class Row:
    """One stage of one set; memory is the peak, and what of it is no file of a library."""

    stage: str
    clips: int
    cost: common.Cost
    files: int = 0
    size: int = 0

    def cells(self) -> list[str]:
        """Return the cells of the table."""
        cost = self.cost
        of_clip = (cost.seconds * 1e3 / self.clips, cost.cpu_s * 1e3 / self.clips)
        return [
            f"{self.clips:,}",
            self.stage,
            *(f"{seconds:.2f}" for seconds in (cost.seconds, cost.cpu_s)),
            *(f"{ms:.3f}" for ms in of_clip),
            f"{cost.peak_mib:.0f}",
            f"{cost.own_mib:.0f}",
            f"{self.files:,}" if self.files else "",
            f"{self.size / 1e6:,.1f}" if self.size else "",
        ]


def write_set(raw: Path, clips: int) -> None:
    """Write recordings of five bytes an event, of which 9 of 10 are for training."""
    rng = np.random.default_rng(0)
    record = np.empty((EVENTS, 5), np.uint8)
    for split in ("train", "test"):
        for label in range(CLASSES):
            (raw / split / str(label)).mkdir(parents=True)
    for number in range(clips):
        t = np.sort(rng.integers(0, SPAN_US, EVENTS))
        record[:, :2] = rng.integers(0, SIDE, (EVENTS, 2))
        record[:, 2] = rng.integers(0, 2, EVENTS) << 7 | t >> 16
        record[:, 3], record[:, 4] = t >> 8 & 255, t & 255
        split = "train" if number // CLASSES % 10 else "test"
        file = raw / split / str(number % CLASSES) / f"{number:06d}.bin"
        file.write_bytes(record.tobytes())


def stages(folder: Path, clips: int) -> Iterator[Row]:
    """Run every stage of one set."""
    raw, store, shards = folder / "raw", folder / "store", folder / "shards"
    convert = common.of_tool("convert", raw, "--out", store)
    shard = common.of_tool("shard", store, "--out", shards)
    plan = ".eventkit/plan.json"
    for command, out, halves in (
        (convert, store, ("scan and plan", "convert")),
        (shard, shards, ("plan of shards", "shard and finish")),
    ):
        before, after = common.measured(command, mark=out / plan)
        yield Row(halves[0], clips, before)
        yield Row(halves[1], clips, after, *count(out))
    for stage, command in (
        ("convert again", convert),
        ("shard again", shard),
        ("verify store", common.of_tool("verify", store)),
        ("verify shards", common.of_tool("verify", shards)),
        ("open shards", common.of_code(OPEN, shards)),
        ("one pass of the order", common.of_code(READ, shards)),
    ):
        (cost,) = common.measured(command)
        yield Row(stage, clips, cost)


def count(folder: Path) -> tuple[int, int]:
    """Return files and bytes."""
    sizes = [p.stat().st_size for p in folder.rglob("*") if p.is_file()]
    return len(sizes), sum(sizes)


def of_a_clip(folder: Path, clips: int) -> Iterator[tuple[str, float, int]]:
    """Yield what a set consists of: name, bytes a clip, files; sorted by name."""
    sizes: Counter[str] = Counter()
    files: Counter[str] = Counter()
    for base, _, names in os.walk(folder):
        for name in names:
            path = Path(base, name)
            kind = kind_of(path.relative_to(folder))
            sizes[kind] += path.stat().st_size
            files[kind] += 1
    for kind in sorted(sizes):
        yield kind, sizes[kind] / clips, files[kind]


def kind_of(path: Path) -> str:
    """Return what a file of a store or of shards is for.

    Examples
    --------
    >>> kind_of(Path("pack-00000.zarr/events/c/0/0"))
    'arrays of clips'
    """
    first = path.parts[0]
    if first == ".eventkit":
        return f".eventkit/{path.parts[1]}"
    if path.name == "zarr.json":
        return "metadata of packs" if len(path.parts) == 2 else "metadata of arrays"
    if first.endswith(".zarr"):
        large = path.parts[1] in {"events", "rgb", "rgb_bytes", "diff_events", "diff_rgb"}
        return "arrays of clips" if large else "small columns"
    if path.suffix in {".tar", ".idx"}:
        return f"*{path.suffix}"
    return first


def print_parts(title: str, folder: Path, clips: int) -> None:
    """Print what a set consists of."""
    print(f"\n### {title} of {clips:,} clips\n\n| what | bytes a clip | files |\n|---|---|---|")
    for kind, size, files in of_a_clip(folder, clips):
        print(f"| `{kind}` | {size:,.1f} | {files:,} |", flush=True)


def judge(report: common.Report, rows: list[Row]) -> None:
    """Book the rerun, and what a further clip costs in the largest set beside the one before."""
    by_stage: dict[str, list[Row]] = {}
    for row in rows:
        by_stage.setdefault(row.stage, []).append(row)
    for first, second in zip(by_stage["convert again"], by_stage["shard again"], strict=True):
        spent = first.cost.seconds + second.cost.seconds
        limit = RERUN_S * max(1.0, first.clips / 10**4)
        where = f"{first.clips:,} recordings, {spent:.2g} s"
        report.add_limit("rerun of a finished set", f"{limit:g} s", where, spent / limit, 1)
    print("\n### CPU time of a further clip, ms\n\n| stage | from .. to: ms |\n|---|---|")
    for stage, sizes in by_stage.items():
        steps = [
            (b.cost.cpu_s - a.cost.cpu_s) / (b.clips - a.clips) * 1e3 for a, b in pairwise(sizes)
        ]
        cells = [
            f"{a.clips:,} .. {b.clips:,}: {ms:.3f}"
            for (a, b), ms in zip(pairwise(sizes), steps, strict=True)
        ]
        print(f"| {stage} | {'; '.join(cells)} |")
        if len(steps) > 1:
            report.add_limit(
                "CPU time of a further clip",
                f"up to {sizes[-2].clips:,}",
                f"{stage}, up to {sizes[-1].clips:,}",
                steps[-1] / statistics.fmean(steps[:-1]),
                FLAT,
            )


def main(report: common.Report, *, most: int = 10**4, within: Path | None = None) -> None:
    print(f"\n### many tiny clips: {EVENTS:,} events on {SIDE}x{SIDE}\n")
    titles = (
        "clips | stage | s | CPU s | ms a clip | CPU ms a clip | peak MiB | own MiB | files | MB"
    )
    print(f"| {titles} |\n|{'---|' * (titles.count('|') + 1)}")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=within) as name:
        warm(Path(name) / "warm")
        for clips in (n for n in SIZES if n <= most):
            folder = Path(name) / str(clips)
            write_set(folder / "raw", clips)
            os.sync()  # what waits for the disk is no part of the first stage
            for row in stages(folder, clips):
                print(f"| {' | '.join(row.cells())} |", flush=True)
                rows.append(row)
            shutil.rmtree(folder / "raw")
        for title in ("store", "shards"):
            print_parts(title, folder / title, clips)
    judge(report, rows)


def warm(folder: Path) -> None:
    """Run everything once on ten recordings: kernels are compiled, modules in the cache."""
    write_set(folder / "raw", 10)
    for _ in stages(folder, 10):
        pass


if __name__ == "__main__":
    PARSER = argparse.ArgumentParser(description=__doc__)
    PARSER.add_argument("--most", type=int, default=SIZES[1], help="Clips of the largest set.")
    PARSER.add_argument("--within", type=Path, help="Where the sets are written, and removed.")
    CHOSEN = PARSER.parse_args(sys.argv[1:])
    REPORT = common.Report()
    main(REPORT, most=CHOSEN.most, within=CHOSEN.within)
    REPORT.print()
