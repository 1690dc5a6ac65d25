"""Files and folders that are there whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventkit.atomic import committed, write_atomic


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_atomic(path, b"old")

    with pytest.raises(TypeError):
        write_atomic(path, "text, not bytes")  # type: ignore[arg-type]

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_is_not_there_before_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"

    with committed(path) as temporary:
        temporary.write_bytes(b"1")
        assert not path.exists()

    assert path.read_bytes() == b"1"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_committed_as_one(tmp_path: Path) -> None:
    path = tmp_path / "bag"

    with pytest.raises(FileNotFoundError):
        _write_half(path)
    assert list(tmp_path.iterdir()) == []

    with committed(path) as temporary:
        (temporary / "deep").mkdir(parents=True)
        (temporary / "deep" / "whole").write_bytes(b"2")

    assert (path / "deep" / "whole").read_bytes() == b"2"
    assert list(tmp_path.iterdir()) == [path]


def _write_half(path: Path) -> None:
    with committed(path) as temporary:
        temporary.mkdir()
        (temporary / "half").write_bytes(b"1")
        (temporary / "missing" / "other half").write_bytes(b"2")
