"""Files and folders that are there whole, or not at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from eventkit.atomic import (
    committed,
    remove_left,
    replaced,
    scratch,
    temporary_beside,
    write_atomic,
)


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


def test_two_writers_of_one_name_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"

    with committed(path) as first:
        first.write_bytes(b"first")
        with committed(path) as second:
            second.write_bytes(b"second")
        assert path.read_bytes() == b"second"

    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_several_take_their_places_together_and_replace_what_is_there(tmp_path: Path) -> None:
    folder, file = tmp_path / "pictures", tmp_path / "events"
    _fill(folder, "old")
    file.mkdir()

    with replaced(folder, file) as (pictures, events):
        _fill(pictures, "new")
        events.write_bytes(b"new")
        assert (folder / "old").exists()

    assert (folder / "new").exists()
    assert not (folder / "old").exists()
    assert file.read_bytes() == b"new"
    assert sorted(tmp_path.iterdir()) == [file, folder]


def test_where_the_last_one_gets_no_place_the_first_ones_are_as_before(tmp_path: Path) -> None:
    old, fresh = tmp_path / "old", tmp_path / "fresh"
    _fill(old, "kept")

    with pytest.raises(OSError, match="too long"):
        _replace_all(old, fresh, tmp_path / ("x" * 300))

    assert sorted(tmp_path.rglob("*")) == [old, old / "kept"]


def test_a_scratch_folder_is_gone_after_the_block(tmp_path: Path) -> None:
    with scratch(tmp_path / "a.npz") as folder:
        (folder / "column").write_bytes(b"1")
        assert folder.parent == tmp_path

    assert list(tmp_path.iterdir()) == []


def test_what_ended_processes_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from eventkit.atomic import temporary_beside as t;"
        "t(Path(sys.argv[1])).write_bytes(b'half'); t(Path(sys.argv[1])).mkdir()"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "a.dat"], check=True)
    mine = temporary_beside(tmp_path / "b.dat")
    mine.write_bytes(b"half")
    elsewhere = tmp_path / ".tmp-00000000-999999-01234567"
    elsewhere.write_bytes(b"on another machine")
    users = tmp_path / ".tmp-thesis.tex"
    users.write_bytes(b"years of work")
    assert len(list(tmp_path.iterdir())) == 5

    remove_left(tmp_path)

    assert sorted(tmp_path.iterdir()) == sorted([mine, elsewhere, users])


def _fill(folder: Path, name: str) -> None:
    folder.mkdir()
    (folder / name).write_bytes(b"1")


def _replace_all(*folders: Path) -> None:
    with replaced(*folders) as temporary:
        for folder in temporary:
            _fill(folder, "new")
