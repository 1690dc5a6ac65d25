"""Published data sets in miniature: their folders, names, lists and quirks, a few events each."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from pipelines_helpers import write_recording
from scipy.io import savemat

from eventkit.events import Events
from eventkit.frames import Frames, Picture
from eventkit.ledger import Ledger
from eventkit.recording import Chunk, Recording
from eventkit.writers.aedat4 import Aedat4Writer

EVENTS = 60
TAKES = [f"dvSave-2022_09_29_09_59_{i:02d}" for i in range(4)]


def columns(seed: int, *, size: tuple[int, int] = (346, 260)) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "x": rng.integers(0, size[0], EVENTS).astype(np.uint16),
        "y": rng.integers(0, size[1], EVENTS).astype(np.uint16),
        "t": np.sort(rng.integers(0, 400_000, EVENTS)),
        "p": rng.integers(0, 2, EVENTS).astype(np.int8),
    }


def write_aedat4(path: Path, seed: int, *, size: tuple[int, int], frames: int = 0) -> None:
    events = Events(**columns(seed, size=size))

    def source(ledger: Ledger) -> Iterator[Chunk]:
        ledger.decoded += len(events)
        yield Chunk(events)

    pictures = np.full((frames, size[1], size[0], 3), seed % 256, np.uint8)
    times = np.linspace(1_000, 390_000, frames).astype(np.int64)

    def reader(indices) -> Iterator[Picture]:
        return (Picture(pictures[i]) for i in indices)

    side = Frames(times, times, times + 500, size, 3, "recorded", reader) if frames else None
    path.parent.mkdir(parents=True, exist_ok=True)
    made = Recording(Path("made"), "made", size, "given", source, frames=side)
    Aedat4Writer().write(made, path, ledger=Ledger())


def write_pictures(folder: Path, *, step: int = 1, count: int = 3) -> None:
    folder.mkdir(parents=True)
    for i in range(0, step * count, step):
        Image.fromarray(np.full((26, 35, 3), i, np.uint8)).save(folder / f"{i:08d}.png")


def write_npz(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **columns(seed))


def pokerevent(root: Path) -> Path:
    """Two animals of one name in two decks; one take with pictures only."""
    decks = {"action_ex_001_Whale": 65, "action_ex_002_Whale": 112, "action_Poker001": 0}
    lines: dict[str, list[str]] = {"train": [], "test": []}
    for number, (folder, label) in enumerate(decks.items()):
        for i in range(2):
            path = root / "Poker_Event" / folder / f"{TAKES[i]}.aedat4"
            write_aedat4(path, 10 * number + i, size=(346, 260), frames=3)
            split = "test" if i else "train"
            lines[split].append(f"{folder}/{TAKES[i]} 3 {label}\n")
    take = root / "Poker_rgb_event" / "action_Poker001" / TAKES[2]
    write_pictures(take / f"{TAKES[2]}_aps")
    write_pictures(take / f"{TAKES[2]}_dvs")
    lines["train"].append(f"action_Poker001/{TAKES[2]} 3 0\n")
    for split, listed in lines.items():
        (root / f"{split}_label.txt").write_text("".join(listed))
    return root


def hardvs(root: Path, *, first: int = 0, rawframes: str = "") -> Path:
    """The npz files; one in the list is missing.

    Parameters
    ----------
    first : int
        Label of ``action_001`` in the lists.
    rawframes : {"", "flat", "deep"}
        Pictures as well: ``<class>/<take>_aps`` or ``<class>/<take>/<take>_aps``.
    """
    lines: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for number in (1, 2, 300):
        for i, split in enumerate(lines):
            name = f"action_{number:03d}/{TAKES[i]}"
            write_npz(root / "MINI_HARDVS_files" / f"{name}.npz", 10 * number + i)
            lines[split].append(f"{name} 15 {number - 1 + first}\n")
            if rawframes:
                take = root / "rawframes" / name
                base = take.parent if rawframes == "flat" else take
                write_pictures(base / f"{TAKES[i]}_aps", step=5)
                write_pictures(base / f"{TAKES[i]}_dvs", step=5)
    lines["train"].append(f"action_002/dvSave-2021_07_30_10_44_40 15 {1 + first}\n")
    for split, listed in lines.items():
        (root / f"{split}_label.txt").write_text("".join(listed))
    names = "Action001-walking\nAction002 -  sitting down\nAction300_ waving\n"
    (root / "HARDVS_300_class.txt").write_text(names)
    return root


def nmnist(root: Path) -> Path:
    for split, first in (("Train", 0), ("Test", 50)):
        for digit in (1, 7):
            for i in range(2):
                stem = root / split / str(digit) / f"{first + i + digit:05d}"
                write_recording(stem, seed=first + digit + i, events=EVENTS, picture=False)
    return root


def ncaltech101(root: Path) -> Path:
    for folder in ("BACKGROUND_Google", "Faces_easy", "airplanes"):
        for i in (1, 2):
            stem = root / "Caltech101" / folder / f"image_{i:04d}"
            write_recording(stem, seed=i, events=EVENTS, picture=False)
    outlines = root / "Caltech101_annotations" / "airplanes" / "annotation_0001.bin"
    outlines.parent.mkdir(parents=True)
    outlines.write_bytes(struct.pack("<12h", *range(12)))
    return root


def asldvs(root: Path) -> Path:
    for letter in "aky":
        (root / letter).mkdir(parents=True)
        for i in (1, 2):
            made = columns(ord(letter) + i, size=(240, 180))
            sides = {"ts": made["t"], "x": made["x"], "y": made["y"], "pol": made["p"]}
            upright = {k: v.reshape(-1, 1) for k, v in sides.items()}
            savemat(root / letter / f"{letter}_{i:04d}.mat", upright)
    return root


def aedat3(rows: list[tuple[int, int, int, int]]) -> bytes:
    """Encode events as one packet of AEDAT3.1, byte by byte, independent of the reader."""
    lines = ("#!AER-DAT3.1", "#Format: RAW", "#Source 1: DVS128", "#!END-HEADER")
    head = b"".join(line.encode() + b"\r\n" for line in lines)
    body = b"".join(struct.pack("<Ii", x << 17 | y << 2 | p << 1 | 1, t) for x, y, t, p in rows)
    return head + struct.pack("<hhiiiiii", 1, 1, 8, 4, 0, len(rows), len(rows), len(rows)) + body


GESTURES = [(1, 1_000, 2_000), (8, 2_500, 4_000), (8, 4_200, 5_000), (11, 4_900, 6_000)]
"""A gesture done twice, and two whose times overlap, as in user22_led."""


def dvs128gesture(root: Path, *, users: tuple[int, ...] = (1, 2, 3, 24)) -> Path:
    folder = root / "DvsGesture"
    folder.mkdir(parents=True)
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for user in users:
        for light in ("led", "fluorescent_led"):
            rows = [((user + t) % 128, t % 128, t, t // 100 % 2) for t in range(0, 7_000, 100)]
            stem = f"user{user:02d}_{light}"
            (folder / f"{stem}.aedat").write_bytes(aedat3(rows))
            table = "class,startTime_usec,endTime_usec\n" + "".join(
                f"{label},{start},{stop}\n" for label, start, stop in GESTURES
            )
            (folder / f"{stem}_labels.csv").write_text(table)
            lists["test" if user >= 24 else "train"].append(f"{stem}.aedat\n")
    (folder / "gesture_mapping.csv").write_text("action,label\nhand_clapping,1\n")
    for split, lines in lists.items():
        (folder / f"trials_to_{split}.txt").write_text("".join(lines) + "\n")
    return root


DAILY = {"C0P3M0S1_20231111_09_11_23": 0, "C49P2M1S1_20231111_15_48_00": 49,
         "C49P45M0S3_20231112_10_00_00": 49, "C199P4M0S1_20231113_10_00_00": 199}  # fmt: skip


def dailydvs200(root: Path, *, lists: bool) -> Path:
    for number, (name, label) in enumerate(DAILY.items()):
        path = root / "event_raw" / f"action_{label + 1}" / f"{name}.aedat4"
        write_aedat4(path, number, size=(320, 240))
    if lists:
        for split, names in (("train", (1, 2)), ("val", (0,)), ("test", (3,))):
            chosen = [list(DAILY.items())[i] for i in names]
            lines = [f"action_{c + 1}/{name}.aedat4 {c}\n" for name, c in chosen]
            (root / f"{split}.txt").write_text("".join(lines))
    return root


def nimagenet(root: Path) -> Path:
    layout = {"train": ("n01440764_10026", "n15075141_999"), "val": ("ILSVRC2012_val_00000293",)}
    for split, names in layout.items():
        lines = []
        for number, name in enumerate(names):
            wnid = ("n01440764", "n15075141")[number]
            path = root / "N_Imagenet" / f"extracted_{split}" / wnid / f"{name}.npz"
            path.parent.mkdir(parents=True)
            made = columns(number, size=(640, 480))
            kind = np.dtype([("x", "<u2"), ("y", "<u2"), ("t", "<i8"), ("p", "?")])
            packed = np.empty(EVENTS, kind)
            for key, values in made.items():
                packed[key] = values
            np.savez(path, event_data=packed)
            there = f"/home/them/Datasets/N_Imagenet/extracted_{split}/{wnid}/{name}.npz\n"
            lines.append(there)
        (root / "N_Imagenet" / f"{split}_list.txt").write_text("".join(lines))
    return root
