"""Accuracy on real recordings: five folds of nmnist_pairs, every clip a test clip once.

    python benchmarks/accuracy.py --data nmnist_pairs.zip --weights vit.safetensors --out folds

Trains the rows on each fold and prints pooled accuracies with their errors, McNemar's test against
the row that each is compared with, and a logistic regression on the same input. What is finished is
not done again, so it may be stopped and started at will. `--only` takes some rows, or none (`--only
""` prints the table), `--set train.precision=bf16` changes all of them. The table is of the folds
that are there, and of others that `--csv` has kept. A fold of fusion takes 12 minutes on a core
with AVX-512 BF16 in bf16, and 3 to 5 times as long in fp32; RGB a third of it.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from velora.ablation.table import verdicts
from velora.scoring.accuracy import accuracy
from velora.scoring.mcnemar import compared

FOLDS = 5
BINS = 3
# Rotation, shear and elastic distortion, with two epochs more.
BENT = ("data.rotate=15", "data.shear=0.2", "data.warp=0.05", "train.epochs=12")
# How many events there were in a pixel, where red and blue say whether there was one.
COUNTED = "data.event_input=counts,cap=4"


@dataclass(frozen=True)
class Row:
    """What a row changes in the recipe, and which row it is compared with."""

    sets: tuple[str, ...] = ()
    against: str = "fusion"


ROWS = {
    "fusion": Row(),
    "fusion-whole": Row(("data.drop_sense=0",)),
    "rgb": Row(("model.streams=rgb",)),
    "event": Row(("model.streams=event",)),
    "full": Row(("model.tuning=full", "train.lr=3e-5", "train.head_lr=1e-3")),
    "probe": Row(("model.tuning=probe",)),
    "fusion-bent": Row(BENT),
    "rgb-bent": Row((*BENT, "model.streams=rgb"), "fusion-bent"),
    "event-counts": Row(("model.streams=event", COUNTED), "event"),
    "fusion-counts": Row((COUNTED,)),
}


def main() -> None:
    """Train what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="nmnist_pairs.zip")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("folds"))
    parser.add_argument("--only", default=",".join(ROWS))
    parser.add_argument("--folds", default=",".join(map(str, range(FOLDS))))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], dest="assignments")
    parser.add_argument("--csv", type=Path, help="Record, kept, of one seed and --set.")
    args = parser.parse_args()
    chosen = [row for row in args.only.split(",") if row]
    if unknown := sorted({*chosen} - {*ROWS}):
        parser.error(f"--only: expected rows of {', '.join(ROWS)}, got {', '.join(unknown)}")
    for fold in map(int, args.folds.split(",") if chosen else ()):
        folder = args.out / f"fold{fold}"
        prepare(args.data, folder, fold)
        for row in chosen:
            train(folder, row, args)
    tell(args)


def prepare(data: Path, folder: Path, fold: int) -> None:
    """Write the recordings of a fold with its lists, then its shards."""
    if (folder / "shards" / "manifest.json").is_file():
        return
    with zipfile.ZipFile(data) as archive:
        archive.extractall(folder / "unpacked")
    root = folder / "unpacked" / "nmnist_pairs"
    clips = sorted(lines_of(root))
    raw = folder / "raw"
    shutil.rmtree(raw, ignore_errors=True)
    raw.mkdir()
    # Every class is spread evenly: a fifth tests, an eleventh of the rest is val.
    turns: dict[str, int] = {}
    lists: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for stem, label in clips:
        turn = turns[label] = turns.get(label, -1) + 1
        split = "train"
        if turn % FOLDS == fold:
            split = "test"
        elif turn % 11 == 0:
            split = "val"
        lists[split].append(f"{stem} 1 {label}")
    for name, lines in lists.items():
        (raw / f"{name}_label.txt").write_text("\n".join(lines) + "\n")
    for part in ("train", "test"):
        (root / part).rename(raw / part)
    shutil.rmtree(folder / "unpacked")
    run("eventkit", "convert", "raw", "--bins", str(BINS), "--no-diffs", cwd=folder)
    run("eventkit", "shard", cwd=folder)


def lines_of(root: Path) -> Iterator[tuple[str, str]]:
    """Yield (path without suffix, label) of both lists."""
    for name in ("train", "test"):
        for line in (root / f"{name}_label.txt").read_text().splitlines():
            stem, _, label = line.split()
            yield stem, label


def train(folder: Path, row: str, args: argparse.Namespace) -> None:
    """Train a row of a fold, or go on where it stopped."""
    sets = (*args.assignments, *ROWS[row].sets)
    run(
        *("velora-train", "--recipe", "nmnist", "--shards", "shards", "--seed", str(args.seed)),
        *("--weights", str(args.weights.resolve()), "--name", f"{row}-seed{args.seed}"),
        *(word for each in sets for word in ("--set", each)),
        cwd=folder,
    )


def run(program: str, *words: str, cwd: Path) -> None:
    """Run a command of this environment; its output goes to standard error."""
    command = [str(Path(sys.executable).parent / program), *words]
    subprocess.run(command, cwd=cwd, check=True, stdout=sys.stderr)


def tell(args: argparse.Namespace) -> None:
    """Print the pooled table of what is finished."""
    kept = read_verdicts(args.csv) if args.csv is not None and args.csv.is_file() else {}
    rows = {row: kept.get(row, {}) | pooled(args, row) for row in ROWS}
    print("| model | clips | top-1 | 95 % | only that / only this, against | p | trains |")
    print("|---|---|---|---|---|---|---|")
    for row, correct in rows.items():
        if not correct:
            continue
        got = accuracy(sum(correct.values()), len(correct))
        other = ROWS[row].against
        test = compared(rows[other], correct)
        versus = f"{test.only_first} / {test.only_second}, {other} | {test.p_value:.3g}"
        if row == other or not test.samples:
            versus = "|"
        low, high = got.interval
        print(
            f"| {row} | {len(correct)} | {got.share:.4f} +- {got.error:.4f} | "
            f"{low:.4f} .. {high:.4f} | {versus} | {trains(args, row)} |"
        )
    print(f"\nlogistic regression on the same input: {regressions(args)}; chance 0.10")
    if args.csv is not None:
        write_verdicts({row: correct for row, correct in rows.items() if correct}, args.csv)


def read_verdicts(path: Path) -> dict[str, dict[str, bool]]:
    """Read which clips each row got right, as far as it has seen them."""
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    rows = [name for name in lines[0] if name != "key"]
    return {
        row: {line["key"]: line[row] == "1" for line in lines if line[row] != ""} for row in rows
    }


def write_verdicts(rows: dict[str, dict[str, bool]], path: Path) -> None:
    """Write a line a clip: its key, and 1 or 0 for each row that has seen it."""
    keys = sorted(set().union(*rows.values()))
    with path.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["key", *rows])
        for key in keys:
            table.writerow([key, *(int(row[key]) if key in row else "" for row in rows.values())])


def pooled(args: argparse.Namespace, row: str) -> dict[str, bool]:
    """Which test clips a row gets right, over the folds that are there."""
    found: dict[str, bool] = {}
    for folder in sorted(args.out.glob("fold*")):
        run = folder / "runs" / f"{row}-seed{args.seed}"
        if (run / "predictions.csv").is_file():
            found |= verdicts(run)
    return found


def trains(args: argparse.Namespace, row: str) -> str:
    """The trainable parameters of a row."""
    for path in args.out.glob(f"fold*/runs/{row}-seed{args.seed}/parameters.json"):
        whole = json.loads(path.read_bytes())[-1]
        return f"{whole['trainable']:,}"
    return ""


def regressions(args: argparse.Namespace) -> str:
    """Pooled accuracies of a logistic regression on the counts, the image, and both."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    hits = {"events": 0, "image": 0, "both": 0}
    total = 0
    for folder in sorted(args.out.glob("fold*")):
        sets = {split: pixels(folder / "shards", split) for split in ("train", "test")}
        total += len(sets["test"][2])
        for name in hits:
            data = {
                split: {"events": e, "image": i, "both": np.hstack([e, i])}[name]
                for split, (e, i, _) in sets.items()
            }
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, C=0.01))
            model.fit(data["train"], sets["train"][2])
            hits[name] += int((model.predict(data["test"]) == sets["test"][2]).sum())
    told = {name: accuracy(count, total) for name, count in hits.items()}
    return ", ".join(f"{name} {got.share:.4f} +- {got.error:.4f}" for name, got in told.items())


def pixels(
    shards: Path, split: str
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Event counts (n, T * 2 * H * W), the first image (n, H * W) and labels of a split."""
    from velora.data import ShardDataset

    data = ShardDataset(shards, split, members=("events", "rgb"))
    items = [data[i] for i in range(len(data))]
    events = np.stack([item["events"].numpy().ravel() for item in items]).astype(np.float32)
    images = np.stack([item["rgb"][0].numpy().ravel() for item in items]).astype(np.float32)
    return np.log1p(events), images / 255, data.shards.labels(split)


if __name__ == "__main__":
    main()
