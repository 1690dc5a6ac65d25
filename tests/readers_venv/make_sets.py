"""Write small sets for the foreign readers: one a codec, PNG and JPEG, with and without diffs.

Run with the environment of the project; ``matrix.py`` reads them with one that lacks it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "pipelines"))
from pipelines_helpers import write_recording

SETS = {
    "gz": ("npy.gz", "png", ["--with-diffs", "--num-shards", "3"]),
    "raw": ("npy", "jpg", ["--num-shards", "2"]),
    "zst": ("npy.zst", "png", []),
}


def main(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for name, (codec, pictures, options) in SETS.items():
        raw, store = folder / f"{name}-recordings", folder / f"{name}-store"
        write_raw(raw, pictures)
        run("convert", raw, "--out", store, "--bins", "4", "--split", "stratified")
        run("shard", store, "--out", folder / name, "--codec", codec, *options)


def write_raw(raw: Path, pictures: str) -> None:
    """Three classes; one recording with the longest key there is, one with odd letters."""
    names = [f"{i:04d}" for i in range(9)] + ["x" * 120, "Größe 1.5 (neu)"]
    for split, count in (("train", 11), ("test", 3)):
        for label in range(3):
            for i, name in enumerate(names[:count]):
                stem = raw / split / f"c{label}" / name.replace(".", "_")
                write_recording(stem, seed=1000 * label + 10 * count + i)
                if pictures == "jpg":
                    with Image.open(stem.with_suffix(".png")) as image:
                        image.save(stem.with_suffix(".jpg"))
                    stem.with_suffix(".png").unlink()


def run(*command: str | Path) -> None:
    code = "from eventkit.cli import main; main()"
    subprocess.run([sys.executable, "-c", code, *map(str, command)], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
