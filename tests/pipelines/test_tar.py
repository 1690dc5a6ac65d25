"""The tar writer against the standard library and GNU tar."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventkit.errors import SettingsError
from pipelines.tar import TarWriter, header, member_offsets

names = st.text("abcdefghijklmnopqrstuvwxyz0123456789_-.", min_size=1, max_size=100)


@given(st.dictionaries(names, st.binary(max_size=2000), max_size=5))
def test_members_and_offsets_are_what_the_standard_library_reads(members: dict[str, bytes]) -> None:
    buffer = io.BytesIO()
    writer = TarWriter(buffer)

    offsets = {name: writer.add(name, data) for name, data in members.items()}
    sha256 = writer.close()["sha256"]

    data = buffer.getvalue()
    assert hashlib.sha256(data).hexdigest() == sha256
    assert len(data) == writer.size
    assert len(data) % 10_240 == 0
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        read = {m.name: tar.extractfile(m).read() for m in tar}
        facts = {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in tar.getmembers()}
    assert read == members
    assert facts <= {(0, 0, 0, "", "", 0o644)}
    assert {n: data[o : o + len(members[n])] for n, o in offsets.items()} == members


def test_small_and_large_members_meet_in_one_tar() -> None:
    sizes = [0, 1, 511, 512, 513, 1 << 16, 1, (1 << 16) - 1, (1 << 18) + 7, 3, 1 << 20, 0]
    members = {f"m{i:02d}": bytes([i]) * size for i, size in enumerate(sizes)}
    buffer = io.BytesIO()
    writer = TarWriter(buffer, hashes=("sha256", "crc32c", "md5"))

    offsets = [writer.add(name, data) for name, data in members.items()]
    hashes = writer.close()

    data = buffer.getvalue()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert {m.name: tar.extractfile(m).read() for m in tar} == members
    assert hashes == {
        "sha256": hashlib.sha256(data).hexdigest(),
        "crc32c": google_crc32c.Checksum(data).digest().hex(),
        "md5": hashlib.md5(data).hexdigest(),
    }
    assert member_offsets(np.array(sizes).reshape(4, 3)).ravel().tolist() == offsets


@given(names, st.integers(0, (1 << 33) - 1))
def test_a_header_is_that_of_the_standard_library(name: str, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644

    ours, theirs = header(name, size), info.tobuf(tarfile.USTAR_FORMAT)

    # Device numbers are zeros here and left out there, so the sums over the header differ.
    for start, stop in ((0, 148), (156, 329), (345, 512)):
        assert ours[start:stop] == theirs[start:stop]
    assert tarfile.TarInfo.frombuf(ours, "ascii", "strict").size == size  # it checks the sum


def test_gnu_tar_reads_it(tmp_path: Path) -> None:
    with (tmp_path / "a.tar").open("wb") as file:
        writer = TarWriter(file)
        writer.add("k.cls", b"3")
        writer.add("k.json", b"{}")
        writer.close()

    listed = subprocess.run(
        ["tar", "-tvf", tmp_path / "a.tar"], capture_output=True, text=True, check=True
    ).stdout

    assert listed.split()[5::6] == ["k.cls", "k.json"]


def test_a_name_that_ustar_cannot_hold_is_refused() -> None:
    with pytest.raises(SettingsError, match="100 bytes"):
        header("x" * 101, 1)
