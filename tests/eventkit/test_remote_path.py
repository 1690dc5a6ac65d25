"""A place behind a URL answers as a path does, whatever its objects are called."""

from __future__ import annotations

import errno
import logging
import os
import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFile
from hypothesis import given
from hypothesis import strategies as st

from eventkit.errors import SettingsError
from eventkit.remote import RemotePath
from eventkit.remote.url import UrlPath

NAMES = (
    "a b.bin",
    "ü+ß.bin",
    "#1?x=2&y.bin",
    "%41%2F.bin",
    "12::30::00.bin",
    "[x]*{y}.bin",
    "é" * 90,
)


@pytest.fixture
def memory(request: pytest.FixtureRequest) -> Iterator[RemotePath]:
    """An empty folder of this test alone."""
    place = RemotePath(f"memory://{request.node.name}".replace("[", "-").replace("]", ""))
    yield place
    objects = fsspec.filesystem("memory").store
    for name in [name for name in objects if name.startswith(f"/{place.parts[0]}/")]:
        del objects[name]


def put_raw(place: RemotePath, name: str) -> None:
    """Put an object under a name as it is, which a path would set straight."""
    store = fsspec.filesystem("memory")
    at = f"/{place.parts[0]}/{name}"
    store.store[at] = MemoryFile(store, at, b"x")


@pytest.mark.parametrize(
    ("given_url", "straight"),
    [
        ("s3://b", "s3://b"),
        ("s3://b/", "s3://b"),
        ("s3://b//x///y/", "s3://b/x/y"),
        ("s3://b/x/../y/./z", "s3://b/y/z"),
        ("s3://b/../../c", "s3://b/c"),
        ("S3://Bucket/Key", "s3://Bucket/Key"),
        ("file:///tmp/../x", "file:///x"),
    ],
)
def test_a_url_is_set_straight(given_url: str, straight: str) -> None:
    assert str(UrlPath(given_url)) == straight


@pytest.mark.parametrize(
    "text", ["bucket/x", "", "://x", "s3://", "zip://a.zip::s3://b/x", "1s3://b"]
)
def test_what_is_no_url_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="expected one URL like"):
        UrlPath(text)


@given(st.lists(st.sampled_from(["a", "b", "..", ".", "", "a b", "ü"]), max_size=8))
def test_no_way_leads_out_of_the_bucket(names: list[str]) -> None:
    path = UrlPath("s3://b/x") / "/".join(names)
    assert path.parts[0] == "b"
    assert not {"", ".", ".."} & set(path.parts)
    assert UrlPath(str(path)) == path
    if path.is_relative_to(UrlPath("s3://b/x")):
        assert UrlPath("s3://b/x") / path.relative_to(UrlPath("s3://b/x")) == path


def test_the_beginning_of_a_name_is_no_folder_of_it(memory: RemotePath) -> None:
    (memory / "store/a").write_bytes(b"1")
    (memory / "store2/b").write_bytes(b"2")

    assert [p.name for p in (memory / "store").rglob("*")] == ["a"]
    assert [p.name for p in memory.listed().iterdir()] == ["store", "store2"]
    assert not (memory / "store2").is_relative_to(memory / "store")
    assert not (memory.listed() / "stor").exists()
    assert not (memory / "stor").exists()


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_taken_as_it_is(memory: RemotePath, name: str, tmp_path: Path) -> None:
    path = memory / "folder" / name

    path.write_bytes(b"0123456789")

    assert path.read_bytes() == b"0123456789"
    assert path.stat().st_size == 10
    assert path.read_part(2, 3) == b"234"
    assert path.open().read() == b"0123456789"
    assert [p.name for p in path.parent.iterdir()] == [name]
    assert list(memory.listed().rglob("*")) == [path]
    assert path.relative_to(memory) == PurePosixPath("folder", name)
    path.fetch(tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"0123456789"
    path.unlink()
    assert not path.exists()


def test_names_that_no_file_can_have_are_left_out_and_told(
    memory: RemotePath, caplog: pytest.LogCaptureFixture
) -> None:
    (memory / "raw/whole").write_bytes(b"x")
    for name in ("raw/../../up", "raw/./dot", "raw//double", "raw/folder/", "raw/x?versionId=3"):
        put_raw(memory, name)
    with caplog.at_level(logging.WARNING):
        assert [p.name for p in (memory / "raw").rglob("*")] == ["whole"]
    assert "objects are left out whose names no file can have: 4, as" in caplog.text
    assert [p.name for p in (memory / "raw").listed().iterdir()] == ["whole"]


def test_a_name_that_some_stores_read_as_a_version_is_refused(memory: RemotePath) -> None:
    with pytest.raises(SettingsError, match="expected a name without \\?versionId="):
        (memory / "x?versionId=3").write_bytes(b"x")


@pytest.mark.parametrize(
    ("start", "length", "expected"),
    [(0, 4, b"0123"), (2, 99, b"23"), (4, 1, b""), (9, 5, b""), (1, 0, b""), (0, 0, b"")],
)
def test_a_part_ends_where_the_object_ends(
    memory: RemotePath, start: int, length: int, expected: bytes
) -> None:
    (memory / "x").write_bytes(b"0123")
    assert (memory / "x").read_part(start, length) == expected
    held = memory.held(at_most=10)
    assert (held / "x").read_part(start, length) == expected


def test_an_object_of_no_bytes(memory: RemotePath, tmp_path: Path) -> None:
    path = memory / "empty"
    path.write_bytes(b"")
    assert path.is_file()
    assert path.stat().st_size == 0
    assert path.read_bytes() == path.read_part(0, 5) == path.open().read() == b""
    assert (memory.held(at_most=10) / "empty").read_bytes() == b""
    path.fetch(tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b""


def test_what_is_not_there(memory: RemotePath, tmp_path: Path) -> None:
    path = memory / "nothing"
    for look in (memory, memory.listed()):
        assert not (look / "nothing").exists()
        assert not (look / "nothing").is_file()
        assert not (look / "nothing").is_dir()
        assert list((look / "nothing").rglob("*")) == []
        with pytest.raises(FileNotFoundError):
            (look / "nothing").iterdir()
        with pytest.raises(FileNotFoundError):
            (look / "nothing").stat()
    with pytest.raises(FileNotFoundError) as caught:
        path.read_bytes()
    assert caught.value.filename == str(path)
    with pytest.raises(FileNotFoundError):
        path.fetch(tmp_path / "copy")
    with pytest.raises(FileNotFoundError):
        path.unlink()
    path.unlink(missing_ok=True)


def test_a_listing_knows_what_was_there_and_nothing_newer(memory: RemotePath) -> None:
    (memory / "a").write_bytes(b"1")
    listed = memory.listed()
    (memory / "b").write_bytes(b"2")

    assert [p.name for p in listed.iterdir()] == ["a"]
    assert not (listed / "b").exists()
    assert (memory / "b").exists()
    assert not (pickle.loads(pickle.dumps(listed)) / "c").exists()
    assert (pickle.loads(pickle.dumps(listed)) / "b").exists()


def test_create_tells_ours_from_theirs(memory: RemotePath) -> None:
    assert (memory / "x").create(b"mine")
    assert (memory / "x").create(b"mine")  # as one whose answer was lost is sent again
    assert not (memory / "x").create(b"yours")
    assert (memory / "x").read_bytes() == b"mine"


def test_threads_share_a_path(memory: RemotePath) -> None:
    path = memory / "folder"
    (path / "x").write_bytes(b"x")
    here = threading.Barrier(8)

    def ask(number: int) -> bytes:
        here.wait()
        (path / str(number)).write_bytes(bytes([number]))
        return (path / str(number)).read_bytes()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [bytes([n]) for n in range(8)]
    assert len(list(path.iterdir())) == 9


def test_a_full_disk_is_told_of_the_file_of_this_machine(memory: RemotePath) -> None:
    (memory / "x").write_bytes(b"0123")
    with pytest.raises(OSError, match="No space left") as caught:
        (memory / "x").fetch(Path("/dev/full"))
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == "/dev/full"


@pytest.mark.parametrize("url", ["bogus://x/y", "sftp1://x"])
def test_a_protocol_that_nobody_knows(url: str) -> None:
    with pytest.raises(SettingsError, match="a URL that fsspec opens"):
        RemotePath(url).exists()


def test_no_network_is_no_absence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens at the port "discard"."""
    pytest.importorskip("s3fs", reason="needs s3fs")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    for ask in (RemotePath.is_dir, RemotePath.exists, RemotePath.listed, RemotePath.iterdir):
        with pytest.raises(OSError, match=r"127\.0\.0\.1:9") as caught:
            ask(RemotePath("s3://bucket/x"))
        assert caught.value.filename == "s3://bucket/x"


def test_it_is_no_path_of_this_machine(memory: RemotePath) -> None:
    with pytest.raises(TypeError):
        os.fspath(memory / "x")  # type: ignore[call-overload]
