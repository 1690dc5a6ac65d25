"""Writing shards beside ``wds.TarWriter``: CPU time, since both wait for one disk.

Ours hashes (sha256 and crc32c), syncs file and folder, renames, and writes a receipt; webdataset's
writer does none of it. Both are given the same bytes.
"""

from __future__ import annotations

import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import common
import numpy as np

from eventkit.atomic import committed
from pipelines.receipts import write_receipt
from pipelines.tar import HASHES, TarWriter

TARGETS = {1_000: 4.0, 80_000: 1.8, 1_440_000: 1.1}
BYTES = 160 << 20


def main(report: common.Report, *, rounds: int = 9) -> None:
    webdataset = common.peer("webdataset")
    if webdataset is None:
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size, target in TARGETS.items():
            samples = make_samples(size)
            rows: common.Rows = {
                "wds.TarWriter": lambda s=samples: write_theirs(webdataset, folder, s),
                "eventkit": lambda s=samples: write_ours(folder, s, HASHES),
                "eventkit, with md5": lambda s=samples: write_ours(folder, s, (*HASHES, "md5")),
            }
            ratios = compare_cpu(f"tars of {size} B samples", rows, folder, rounds=rounds)
            where = f"{size / 1000:g} kB a sample"
            report.add("tar, CPU time", "wds.TarWriter", where, ratios["eventkit"], target)
            print(f"with md5: {ratios['eventkit, with md5']:.2g}x")


def make_samples(size: int) -> list[tuple[str, dict[str, bytes]]]:
    """Return key and members; of the contents 16 are different, none can be compressed."""
    rng = np.random.default_rng(0)
    contents = [rng.bytes(size) for _ in range(16)]
    meta = json.dumps({"window_us": [[i, i + 1000] for i in range(8)]}).encode()
    count = min(20_000, BYTES // size)
    return [
        (f"rec_{i:06d}", {"cls": b"3", "events.npy": contents[i % 16], "json": meta})
        for i in range(count)
    ]


def write_theirs(webdataset: object, folder: Path, samples: list) -> None:
    writer = webdataset.TarWriter(str(folder / "theirs.tar"))
    for key, members in samples:
        writer.write({"__key__": key, **members})
    writer.close()


def write_ours(folder: Path, samples: list, hashes: tuple[str, ...]) -> None:
    with committed(folder / "ours.tar") as temporary, temporary.open("wb") as file:
        tar = TarWriter(file, hashes=hashes)
        for key, members in samples:
            for suffix, data in members.items():
                tar.add(f"{key}.{suffix}", data)
        digests = tar.close()
    sizes = [[len(data) for data in members.values()] for _, members in samples]
    keys = [key for key, _ in samples]
    write_receipt(folder, "ours", {"keys": keys, "sizes": sizes, "hashes": digests})


def compare_cpu(
    title: str, rows: dict[str, Callable[[], None]], folder: Path, *, rounds: int
) -> dict[str, float]:
    """Print one table; return CPU time of the first row / that of each, the median over rounds.

    Each writes files that are new, as shards are: to free those of the round before is no part.
    """
    spent: dict[str, list[float]] = {name: [] for name in rows}
    for row in rows.values():
        row()
    names = list(rows)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            gc.collect()
            for file in folder.glob("*.tar"):
                file.unlink()
            began = time.process_time()
            rows[name]()
            spent[name].append(time.process_time() - began)
    print(f"\n### {title} ({rounds} rounds)\n\n| row | CPU ms | x faster |\n|---|---|---|")
    ratios = {}
    for name, seconds in spent.items():
        pairs = [a / b for a, b in zip(spent[names[0]], seconds, strict=True)]
        ratios[name] = statistics.median(pairs)
        spread = f"{ratios[name]:.3g} ({min(pairs):.3g} .. {max(pairs):.3g})"
        print(f"| {name} | {statistics.median(seconds) * 1e3:.3g} | {spread} |", flush=True)
    return ratios


if __name__ == "__main__":
    REPORT = common.Report()
    main(REPORT)
    REPORT.print()
