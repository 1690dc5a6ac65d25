"""A set of four packs and twelve shards, one clean run over it, and runs that a fault ends."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from helpers import start_tool
from PIL import Image
from pipelines_helpers import tree_bytes, write_recording

from pipelines.executors import open_pool
from pipelines.kinds import kind_of
from pipelines.verify import verify_shards, verify_store

SHARD = ("shard", "--num-shards", "6")
MADE = {"convert": "store", "shard": "shards"}
_CACHES = ("lock", "scan.jsonl", "origin.json")


def write_raw(raw: Path, *, recordings: int = 24, events: int = 300) -> Path:
    """Write recordings with pictures of four sizes: a pack holds those of one size."""
    for i in range(recordings):
        stem = raw / f"c{i % 3}" / f"{i:04d}"
        write_recording(stem, seed=i, events=events, picture=False)
        pixels = np.random.default_rng(i).integers(0, 256, (20 + i % 4, 24), dtype=np.uint8)
        Image.fromarray(pixels).save(stem.with_suffix(".png"))
    return raw


@dataclass(frozen=True)
class Clean:
    """What clean runs left in a folder, and how long each command took."""

    folder: Path
    seconds: dict[str, float]

    def prepare(self, folder: Path, command: str) -> tuple[str | Path, ...]:
        """Return a command that works in ``folder``, where what it reads is put."""
        if command == "shard":
            shutil.copytree(self.folder / "store", folder / "store")
        return commands(self.folder / "raw")[command]


def run_clean(folder: Path) -> Clean:
    seconds = {}
    for name, command in commands(write_raw(folder / "raw")).items():
        began = time.monotonic()
        finish(*command, cwd=folder)
        seconds[name] = time.monotonic() - began
    return Clean(folder, seconds)


def commands(raw: Path) -> dict[str, tuple[str | Path, ...]]:
    return {"convert": ("convert", raw), "shard": SHARD}


def finish(*command: str | Path, cwd: Path, code: int = 0) -> tuple[str, str]:
    """Run a command to its end; returns what it said."""
    process = start_tool(*command, cwd=cwd)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors
    return out, errors


def struck(
    *command: str | Path, cwd: Path, fault: str, environment: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Run a command with a fault; returns the exit code and standard error."""
    before = dict(os.environ)
    os.environ.update({"EVENTKIT_FAULT": fault, **(environment or {})})
    try:
        process = start_tool(*command, cwd=cwd)
    finally:
        os.environ.clear()
        os.environ.update(before)
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


def everything(folder: Path) -> dict[str, bytes]:
    """Return the bytes of a folder, plans and receipts included, locks and caches left out."""
    return {
        path: data
        for path, data in tree_bytes(folder, hidden=True).items()
        if not (path.startswith(".eventkit/") and path.split("/")[1] in _CACHES)
    }


def assert_as_clean(folder: Path, clean: Clean, command: str) -> None:
    """Compare what a command made with what it makes in a clean run, file by file."""
    made = folder / MADE[command]
    ours, theirs = everything(made), everything(clean.folder / MADE[command])
    assert sorted(ours) == sorted(theirs)
    assert [path for path in ours if ours[path] != theirs[path]] == []
    assert damage_of(made) == temporaries(made) == []


def temporaries(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.startswith(".tmp-")]


def damage_of(folder: Path) -> list[str]:
    """Return what `eventkit verify` finds."""
    with open_pool("inline") as pool:
        look = verify_store if kind_of(folder) == "store" else verify_shards
        return look(folder, pool).problems


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """Return the worker processes of a coordinator with a cluster of its own."""
    return [pid for pid in _children(process.pid) if "spawn_main" in _command(pid)]


def wait_for_worker(process: subprocess.Popen[str], *, timeout: float = 30) -> int:
    """Return a worker as soon as there is one; 0 where the command ends before."""
    until = time.monotonic() + timeout
    while time.monotonic() < until and process.poll() is None:
        if found := workers_of(process):
            return found[-1]
        time.sleep(0.02)
    return 0


def _children(parent: int) -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            yield int(path.parent.name)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
