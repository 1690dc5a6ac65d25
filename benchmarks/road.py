"""The whole road, recordings to shards, beside the loop that a user writes today.

The loop: read a recording, tonic's `ToFrame`, webdataset's `TarWriter`; one process. Ours:
`convert` and `shard`, two threads; it hashes the recordings, keeps a Zarr store on the way, syncs,
and writes receipts, indexes and a manifest. Both begin with the same files, from the page cache,
and store the same counts (uint8, 8 bins, no differences) in the same codec; ours adds times and a
mass balance to each sample, and eight placeholders for pictures.

Recordings are structured `.npy`, the fastest that the loop can be given (`numpy.load` copies 13
bytes an event and decodes nothing), and EVT2 that it reads by expelliarmus.
"""

from __future__ import annotations

import argparse
import gzip
import io
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import common
import numpy as np
from streams import DAVIS, HD, clustered

import eventkit
from eventkit.clip_settings import ClipSettings
from pipelines.convert import convert_raw
from pipelines.datasets.splits import SplitRule
from pipelines.executors import RunSettings
from pipelines.opening import ReadSettings
from pipelines.shard import shard_store
from pipelines.shard_settings import ShardSettings

EVENTS = 10**6
BINS = 8
CLIPS = {DAVIS: 118, HD: 24}
"""Two packs and four of them: a pack is one task, and a set of one is one worker's."""
SHARDS = 4
TARGET = 10.0
PAIRS = Path(__file__).resolve().parents[2] / "shared/data/nmnist_pairs.zip"
NMNIST = (34, 34)
Decoder = Callable[[Path], Any]


def ours(raw: Path, out: Path, *, md5: bool, codec: str) -> None:
    """Convert and shard with two threads."""
    run = RunSettings(executor="threads", workers=2)
    convert_raw(
        [raw],
        out / "store",
        clip=ClipSettings(bins=BINS, diffs=False),
        read=ReadSettings(sensor_size=size_of(raw)),
        layout="auto",
        rule=SplitRule(),
        run=run,
        say=lambda _: None,
    )
    settings = ShardSettings(codec=codec, md5=md5, num_shards=SHARDS)
    shard_store(out / "store", out / "shards", settings=settings, run=run)


def loop(raw: Path, out: Path, *, decode: Decoder, codec: str, size: tuple[int, int]) -> None:
    """Do what the examples of tonic and webdataset do."""
    import webdataset
    from tonic.transforms import ToFrame

    out.mkdir(parents=True)
    frame = ToFrame((*size, 2), n_time_bins=BINS)
    with webdataset.TarWriter(str(out / "000000.tar"), encoder=False) as writer:
        for path in sorted(p for p in raw.rglob("*") if p.suffix in DECODERS):
            counts = np.minimum(frame(decode(path)), 255).astype(np.uint8)
            sample = {"__key__": path.stem, "cls": path.parent.name.encode()}
            sample[f"events.{codec}"] = packed(counts, codec)
            with suppress(FileNotFoundError):
                sample["rgb.png"] = path.with_suffix(".png").read_bytes()
            writer.write(sample)


def packed(counts: Any, codec: str) -> bytes:
    """Encode as a user can: level 6 of gzip; the writer's own encoder takes 9, which is slower."""
    buffer = io.BytesIO()
    np.save(buffer, counts)
    return buffer.getvalue() if codec == "npy" else gzip.compress(buffer.getvalue(), 6, mtime=0)


def decode_evt2(path: Path) -> Any:
    """Read EVT2 as expelliarmus does."""
    from expelliarmus import Wizard

    return Wizard(encoding="evt2").read(path)


def decode_nmnist(path: Path) -> Any:
    """Read a recording of N-MNIST as tonic does."""
    from tonic.io import read_mnist_file

    return read_mnist_file(str(path), dtype=EVENT)


EVENT = np.dtype([("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "i1")])
DECODERS: dict[str, Decoder] = {".npy": np.load, ".raw": decode_evt2, ".bin": decode_nmnist}


def size_of(raw: Path) -> tuple[int, int]:
    """Return the sensor that stands in the name of a folder, as in ``346x260``."""
    width, height = raw.name.split("x")
    return int(width), int(height)


def write_set(raw: Path, suffix: str, *, clips: int, events: int) -> None:
    """Write recordings of one clip each, of two classes."""
    size = size_of(raw)
    for number in range(clips):
        path = raw / str(number % 2) / f"{number:04d}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        ev = clustered(events, size, seed=number)
        columns = path if suffix == ".npy" else path.with_suffix(".npy")
        np.save(columns, ev.to_structured().astype(EVENT))
        if suffix != ".npy":
            opened = eventkit.open(columns, sensor_size=size)
            eventkit.export(opened, path, format="evt2", overwrite=True)
            columns.unlink()


def check_same(rows: common.Rows, out: Path) -> None:
    """Require that both store the same clips, but for the last instant, which tonic leaves out."""
    empty(out)
    for row in rows.values():
        row()
    totals = [
        sorted(int(counts.sum()) for tar in folder.rglob("*.tar") for counts in stored(tar))
        for folder in (out / "loop", out / "ours")
    ]
    assert len(totals[0]) == len(totals[1]) > 0, totals
    assert np.allclose(*totals, rtol=1e-3), totals


def empty(folder: Path) -> None:
    """Remove what the row before wrote: to free it is no part of a row."""
    shutil.rmtree(folder, ignore_errors=True)


def stored(tar: Path) -> Iterator[Any]:
    import tarfile

    from eventkit.samples import decode_array

    with tarfile.open(tar) as opened:
        for member in opened:
            _, _, codec = member.name.partition(".events.")
            if codec:
                yield decode_array(opened.extractfile(member).read(), codec=codec)


def large_clips(
    report: common.Report,
    folder: Path,
    *,
    events: int,
    clips: dict[tuple[int, int], int],
    rounds: int,
) -> None:
    has_evt2 = common.peer("expelliarmus") is not None
    for suffix in (".npy", ".raw") if has_evt2 else (".npy",):
        for size, count in clips.items() if suffix == ".npy" else [(DAVIS, clips[DAVIS])]:
            raw = folder / suffix[1:] / f"{size[0]}x{size[1]}"
            write_set(raw, suffix, clips=count, events=events)
            for codec in ("npy", "npy.gz") if suffix == ".npy" else ("npy",):
                out = folder / "out"
                decode = DECODERS[suffix]
                run = partial(ours, raw, codec=codec)
                rows: common.Rows = {
                    "eventkit": partial(run, out / "ours", md5=True),
                    "eventkit, no md5": partial(run, out / "no-md5", md5=False),
                    "ToFrame, TarWriter": partial(
                        loop, raw, out / "loop", decode=decode, codec=codec, size=size
                    ),
                }
                where = f"{suffix}, {size[0]}x{size[1]}, {events:.0e} events, {codec}"
                title = f"{count} recordings to shards, {where}"
                if codec == "npy":
                    check_same(rows, out)
                ratios = common.compare(
                    title, rows, against="eventkit", rounds=rounds, before=partial(empty, out)
                )
                beside = "ToFrame + TarWriter"
                report.add("convert + shard", beside, where, ratios["ToFrame, TarWriter"], TARGET)
                shutil.rmtree(out)
            shutil.rmtree(raw)


def pairs(folder: Path, *, rounds: int) -> None:
    """Print the road of 1,100 recordings of N-MNIST with their pictures, start-up counted."""
    if not PAIRS.is_file():
        print(f"left out: {PAIRS.name} is not there")
        return
    with zipfile.ZipFile(PAIRS) as archive:
        archive.extractall(folder)
    raw = next(path for path in (folder, folder / "nmnist_pairs") if (path / "train").is_dir())
    out = folder / "out"
    tool = [sys.executable, "-m", "eventkit"]
    commands = {
        "eventkit": [
            [*tool, "convert", str(raw), "--out", str(out / "store"), "--no-diffs"],
            [*tool, "shard", str(out / "store"), "--out", str(out / "shards")],
        ],
        "ToFrame, TarWriter": [[sys.executable, __file__, "--loop", str(raw), str(out / "loop")]],
    }

    def run(name: str) -> None:
        for command in commands[name]:
            subprocess.run(command, check=True, capture_output=True)

    rows: common.Rows = {name: partial(run, name) for name in commands}
    title = "1,100 pairs of N-MNIST to npy.gz shards, whole commands"
    common.compare(title, rows, against="eventkit", rounds=rounds, before=partial(empty, out))


def main(
    report: common.Report,
    *,
    rounds: int = 9,
    events: int = EVENTS,
    clips: dict[tuple[int, int], int] = CLIPS,
) -> None:
    if common.peer("tonic") is None or common.peer("webdataset") is None:
        return
    rounds = min(rounds, 3)  # of half a minute each
    with tempfile.TemporaryDirectory() as folder:
        large_clips(report, Path(folder), events=events, clips=clips, rounds=rounds)
        pairs(Path(folder) / "pairs", rounds=rounds)


if __name__ == "__main__":
    PARSER = argparse.ArgumentParser(description=__doc__)
    PARSER.add_argument("--rounds", type=int, default=3)
    PARSER.add_argument("--events", type=int, default=EVENTS, help="Of a recording.")
    PARSER.add_argument("--clips", type=int, help="Recordings of each set.")
    PARSER.add_argument("--loop", nargs=2, type=Path, metavar=("RAW", "OUT"))
    CHOSEN = PARSER.parse_args()
    if CHOSEN.loop:
        loop(*CHOSEN.loop, decode=decode_nmnist, codec="npy.gz", size=NMNIST)
    else:
        REPORT = common.Report()
        SETS = dict.fromkeys(CLIPS, CHOSEN.clips) if CHOSEN.clips else CLIPS
        main(REPORT, rounds=CHOSEN.rounds, events=CHOSEN.events, clips=SETS)
        REPORT.print()
