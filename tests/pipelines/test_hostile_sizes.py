"""What claims to be larger than it is takes no memory."""

from __future__ import annotations

import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest
from check_helpers import harms
from pipelines_helpers import write_recording

import eventkit
from eventkit.errors import FormatError, SettingsError
from pipelines.datasets.discover import discover
from pipelines.datasets.lists import MAX_LIST_BYTES

FEW_BYTES = 64 << 20


@pytest.fixture
def little_memory():
    """Fails a test that takes more than a few megabytes, NumPy's included."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < FEW_BYTES


def test_a_picture_that_claims_more_than_it_holds_takes_no_memory(
    raw: Path, little_memory: None
) -> None:
    file = raw / "train/c0/0000.png"
    data = bytearray(file.read_bytes())
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    file.write_bytes(data)

    assert harms(raw) == ["unreadable"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("0000.png", ["unreadable"]),
        ("0000.bin.size.txt", ["unreadable"]),
        ("0099_timestamps.txt", ["side_file"]),
    ],
)
def test_a_file_with_a_hole_of_a_terabyte_takes_no_memory(
    raw: Path, little_memory: None, name: str, told: list[str]
) -> None:
    with (raw / "train/c0" / name).open("wb") as file:
        file.truncate(1 << 40)

    assert harms(raw) == told


def npy(descr: str, shape: tuple[int, ...]) -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (117 - len(header)) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


@pytest.mark.parametrize("shape", [(1 << 50, 4), (1 << 62, 4)])
def test_arrays_that_claim_petabytes_take_no_memory(
    tmp_path: Path, little_memory: None, shape: tuple[int, ...]
) -> None:
    for label in "ab":
        for i in range(2):
            write_recording(tmp_path / label / f"{i}", seed=i + 10 * ord(label), picture=False)
    (tmp_path / "a" / "table.npy").write_bytes(npy("<i8", shape) + bytes(64))
    with zipfile.ZipFile(tmp_path / "b" / "events.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for column in "txyp":
            archive.writestr(f"{column}.npy", npy("<i8", shape[:1]) + bytes(64))

    assert harms(tmp_path) == ["unreadable"]


def test_a_zip_bomb_of_a_picture_takes_no_memory(tmp_path: Path, little_memory: None) -> None:
    with (
        zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.png", "w", force_zip64=True) as member,
    ):
        member.write(b"\x89PNG\r\n\x1a\n")
        for _ in range(600):
            member.write(bytes(1 << 20))

    with pytest.raises(FormatError, match="expected a file of at most"):
        eventkit.open(f"zip://a.png::{tmp_path / 'a.zip'}")


def test_a_list_of_gigabytes_is_refused(raw: Path, little_memory: None) -> None:
    with (raw / "train_label.txt").open("wb") as file:
        file.truncate(MAX_LIST_BYTES + 1)

    with pytest.raises(SettingsError, match="expected a list of at most"):
        discover([raw])


def test_a_list_of_one_endless_line_is_refused(raw: Path, little_memory: None) -> None:
    with (raw / "train_label.txt").open("wb") as file:
        for _ in range(100):
            file.write(b"a" * (1 << 20))

    with pytest.raises(SettingsError, match=r"train_label.txt:1: expected .* got a line of"):
        discover([raw])
