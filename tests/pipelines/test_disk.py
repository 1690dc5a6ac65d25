"""Disks that are full, fail, or cannot be written: exit 6, a sentence, and the next run goes on.

File systems are mounted in a mount namespace of the command's own, so nothing is left of them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from crash_helpers import SHARD, Clean, assert_as_clean, finish, struck, temporaries
from helpers import ENTRY, ROOT
from pipelines_helpers import tree_bytes

GO_ON = "run the same command again to go on"


def in_namespace(script: str, *, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a shell script that may mount, with ``eventkit`` as a function of it."""
    eventkit = f'eventkit() {{ "{sys.executable}" -c "{ENTRY["eventkit"]}" "$@"; }}'
    user = ["--map-root-user"] if os.getuid() else []
    return subprocess.run(
        ["unshare", *user, "--mount", "bash", "-c", f"{eventkit}\n{script}"],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def mounts() -> None:
    """Skip tests that mount where that is not allowed."""
    if in_namespace("mount -t tmpfs tmpfs /mnt", cwd=ROOT).returncode:
        pytest.skip("no right to mount, not even in a namespace of one's own (unshare)")


def test_a_full_disk_is_said_and_the_next_run_goes_on(
    clean: Clean, tmp_path: Path, mounts: None
) -> None:
    (tmp_path / "raw").symlink_to(clean.folder / "raw")
    script = """
        mkdir small && mount -t tmpfs -o size=160k tmpfs small
        eventkit convert raw --out small/store; code=$?
        find small -name '.tmp-*'
        mount -o remount,size=64m small && eventkit convert raw --out small/store || exit 99
        cp -a small/store kept && exit $code"""

    done = in_namespace(script, cwd=tmp_path)

    assert done.returncode == 6, done.stderr
    assert "the disk is full; free some space" in done.stderr
    assert "small/store" in done.stderr
    assert GO_ON in done.stderr
    assert ".tmp-" not in done.stdout
    assert tree_bytes(tmp_path / "kept") == tree_bytes(clean.folder / "store")


@pytest.mark.long
def test_a_disk_that_fills_while_tars_are_written_leaves_no_manifest(
    clean: Clean, tmp_path: Path, mounts: None
) -> None:
    (tmp_path / "store").symlink_to(clean.folder / "store")
    script = f"""
        mkdir small && mount -t tmpfs -o size=160k tmpfs small
        eventkit {" ".join(SHARD)} --out small/shards; code=$?
        find small -name '.tmp-*' -o -name manifest.json
        mount -o remount,size=64m small && eventkit {" ".join(SHARD)} --out small/shards || exit 99
        cp -a small/shards kept && exit $code"""

    done = in_namespace(script, cwd=tmp_path)

    assert done.returncode == 6, done.stderr
    assert "the disk is full" in done.stderr
    assert ".tmp-" not in done.stdout.split("samples in")[0]
    assert "manifest.json\n" not in done.stdout.split("samples in")[0]
    assert tree_bytes(tmp_path / "kept") == tree_bytes(clean.folder / "shards")


@pytest.mark.long
def test_a_disk_whose_fsync_fails_is_no_commit(clean: Clean, tmp_path: Path) -> None:
    """A file system larger than the disk below it takes every write and fails the fsync."""
    if os.getuid() or shutil.which("mkfs.ext4") is None:
        pytest.skip("no right to set up a loop device, or no mkfs.ext4")
    (tmp_path / "raw").symlink_to(clean.folder / "raw")
    script = """
        mkdir below small && mount -t tmpfs -o size=400k tmpfs below
        truncate -s 64M below/image && mkfs.ext4 -q -N 512 -O ^has_journal below/image || exit 98
        mount -o loop below/image small || exit 98
        eventkit convert raw --out small/store; code=$?
        ls small/store/.eventkit/receipts
        umount small
        exit $code"""

    done = in_namespace(script, cwd=tmp_path)

    if done.returncode == 98:
        pytest.skip(f"no loop device: {done.stderr}")
    assert done.returncode == 6, done.stderr
    assert GO_ON in done.stderr
    assert "pack-00003.json" not in done.stdout


FAULTS = [
    ("convert", "fsync", "eio"),
    ("shard", "write", "eio"),
    ("convert", "write", "enospc"),
    ("convert", "folder", "eio"),
    ("convert", "receipt", "eio"),
    ("shard", "fsync", "eio"),
    ("shard", "rename", "enospc"),
    ("shard", "folder", "eio"),
]


def check_fault(clean: Clean, folder: Path, name: str, point: str, action: str) -> None:
    command = clean.prepare(folder, name)

    code, errors = struck(*command, cwd=folder, fault=f"{point}:3:{action}")
    assert code == 6, errors
    assert {"eio": "Input/output error", "enospc": "the disk is full"}[action] in errors
    assert GO_ON in errors
    assert "Traceback" not in errors
    assert temporaries(folder) == []
    finish(*command, cwd=folder)

    assert_as_clean(folder, clean, name)


@pytest.mark.parametrize(("command", "point", "action"), FAULTS[:1])
def test_an_error_of_the_disk_is_said_and_the_next_run_goes_on(
    clean: Clean, tmp_path: Path, command: str, point: str, action: str
) -> None:
    check_fault(clean, tmp_path, command, point, action)


@pytest.mark.long
@pytest.mark.parametrize(("command", "point", "action"), FAULTS[1:])
def test_an_error_of_the_disk_anywhere_is_said_and_the_next_run_goes_on(
    clean: Clean, tmp_path: Path, command: str, point: str, action: str
) -> None:
    check_fault(clean, tmp_path, command, point, action)


def test_a_folder_that_cannot_be_written_is_said_and_can_be_read_and_verified(
    clean: Clean, tmp_path: Path, mounts: None
) -> None:
    for name in ("raw", "store", "shards"):
        (tmp_path / name).symlink_to(clean.folder / name)
    script = f"""
        mkdir closed && cp -a store/. closed && cp -a raw/. closed/inputs
        mount --bind closed closed && mount -o remount,ro,bind closed || exit 99
        eventkit convert closed/inputs --out fresh; echo code $?
        eventkit convert raw --out closed; echo code $?
        eventkit {" ".join(SHARD)} --out closed/new; echo code $?
        eventkit convert raw --out closed/new; echo code $?
        eventkit verify closed; echo code $?"""

    done = in_namespace(script, cwd=tmp_path)

    codes = [line for line in done.stdout.splitlines() if line.startswith("code")]
    assert codes == ["code 0", "code 6", "code 6", "code 6", "code 0"], done.stderr
    assert done.stderr.count("cannot be written (Read-only file system); choose another") == 3
    assert "Traceback" not in done.stderr
