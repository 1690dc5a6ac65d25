"""Names may be anything: they reach the end of the road, and no terminal obeys them."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ENTRY, ROOT
from pipelines_helpers import write_recording

from eventkit.cli.text import printable
from eventkit.samples import sample_key
from eventkit.shards import ShardSet


def test_names_of_any_bytes_go_all_the_way(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    names = [os.fsdecode(b"caf\xe9"), "a\nb", "esc\x1b[2J", "x" * 200, "'; rm -rf $HOME #", "<b>"]
    for number, name in enumerate(names):
        for i in range(2):
            write_recording(raw / name / f"{i}{name[:9]}", seed=10 * number + i)

    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8:strict"}
    for arguments in (["convert", "raw", "--bins", "1"], ["shard"], ["verify"]):
        result = subprocess.run(
            [sys.executable, "-c", ENTRY["eventkit"], *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert (result.returncode, result.stderr) == (0, b""), arguments

    found = ShardSet.open(tmp_path / "shards")
    assert sorted(found.class_names.values()) == sorted(names)
    keys = [key for split in found.splits for key in found.keys(split).tolist()]
    assert len(set(keys)) == 12
    assert all(key.isascii() and len(key) < 100 for key in keys)


def test_keys_of_samples_keep_hostile_names_apart() -> None:
    names = ["a b", "a_b", "a/b", "a.b", "a\nb", "A/b", "a\u0300", "\xe0", "../a", "/a", "__a", ""]
    names += [os.fsdecode(b"\xe0"), "x" * 300, "x" * 301, "a" * 90 + "/b", "a" * 90 + "_b"]

    keys = [sample_key(name, 0) for name in names]

    assert len(set(keys)) == len(names)
    assert all(key.isascii() and "." not in key and "/" not in key for key in keys)


@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["run", "dry run"])
def test_two_recordings_of_one_key_are_refused_before_anything_is_made(
    tmp_path: Path, tool, dry: list[str]
) -> None:
    write_recording(tmp_path / "raw" / "a b", seed=1)
    forged = sample_key("a b", 0).removesuffix("_000000").removeprefix("a_b")
    write_recording(tmp_path / "raw" / "a" / f"b{forged}", seed=2)

    told = tool("convert", "raw", "--layout", "flat", *dry)

    assert told.returncode == 2
    assert "expected names that differ as keys of samples, got 'a b' and 'a/b-" in told.stderr
    assert not list(tmp_path.glob("store/*.zarr"))
    assert not (tmp_path / "store" / ".eventkit" / "plan.json").exists()


def on_terminal(*arguments: str | Path, cwd: Path) -> bytes:
    """Run a command with a terminal as its output."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", ENTRY["eventkit"], *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
    )
    os.close(theirs)
    parts = []
    while True:
        try:
            part = os.read(ours, 1 << 16)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        parts.append(part)
    _, errors = process.communicate(timeout=60)
    os.close(ours)
    return b"".join(parts) + errors


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "raw"],
        ["info", "raw/a\x1b]0;owned\x07/\x1b[2J1.bin"],
        ["info", "raw/a\x1b]0;owned\x07/\x1b[2J0.bin"],
        ["convert", "raw", "--bins", "1"],
    ],
)
def test_no_name_controls_the_terminal(tmp_path: Path, arguments: list[str]) -> None:
    for name in ("a\x1b]0;owned\x07", "b\rerror: forged\nline"):
        for i in range(3):
            write_recording(tmp_path / "raw" / name / f"\x1b[2J{i}", seed=i + ord(name[0]))
    file = tmp_path / "raw" / "a\x1b]0;owned\x07" / "\x1b[2J0.bin"
    file.write_bytes(file.read_bytes()[:-2])

    printed = on_terminal(*arguments, cwd=tmp_path)

    assert b"\x1b]0;" not in printed
    assert b"\x1b[2J" not in printed
    assert b"\\x1b[2J0" in printed or "1.bin" in arguments[-1]
    assert not any(line.startswith(b"line") for line in printed.splitlines())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("right\u202eleft", "right\\u202eleft"),
        (os.fsdecode(b"caf\xe9"), "caf\\udce9"),
        ("caf\xe9 \u732b", "caf\xe9 \u732b"),
        ("two\nlines", "two\\nlines"),
        ("a\x9b2J\x7f", "a\\x9b2J\\x7f"),
    ],
)
def test_what_controls_a_terminal_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert printable(text) == shown
