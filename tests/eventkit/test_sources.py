"""Sources: compressed files, members of archives, objects in a store; all read as plain files."""

from __future__ import annotations

import bz2
import gc
import gzip
import io
import lzma
import os
import socket
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventkit
from eventkit.errors import FormatError, MissingDataError, SettingsError
from eventkit.sources import HEAD_BYTES, PIECE_BYTES, Source

Compress = Callable[[bytes], bytes]
SIZE = 3 * PIECE_BYTES + 17


def zstd(data: bytes) -> bytes:
    return pytest.importorskip("zstandard").compress(data)


COMPRESS: dict[str, Compress] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstd,
}


@pytest.fixture(scope="module")
def data() -> bytes:
    return np.random.default_rng(0).integers(0, 200, SIZE).astype(np.uint8).tobytes()


def zipped(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def gather(source: Source, **where: int) -> bytes:
    return b"".join(piece.tobytes() for _, piece in source.pieces(**where))


def read_up_to_the_damage(source: Source) -> tuple[bytes, FormatError | None]:
    parts = []
    try:
        for _, piece in source.pieces():
            parts.append(piece.tobytes())
    except FormatError as err:
        return b"".join(parts), err
    return b"".join(parts), None


@pytest.mark.parametrize("kind", COMPRESS)
def test_compressed_content_reads_as_the_plain_file(tmp_path: Path, data: bytes, kind: str) -> None:
    # Told by content: the name says nothing.
    path = tmp_path / "recording.raw"
    path.write_bytes(COMPRESS[kind](data))
    source = Source(path)

    assert source.compression
    assert not source.is_plain
    assert source.head == data[:HEAD_BYTES]
    assert gather(source) == data
    assert gather(source, start=PIECE_BYTES + 5) == data[PIECE_BYTES + 5 :]
    assert gather(source, start=SIZE + 5) == b""
    assert source.read() == data
    assert source.local().read_bytes() == data
    assert source.size is None


@pytest.mark.parametrize("kind", COMPRESS)
def test_the_inner_name_is_without_the_ending(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.b.raw.{kind}"
    path.write_bytes(COMPRESS[kind](b"x"))

    assert Source(path).inner_name == "a.b.raw"
    assert Source(path).suffix == ".raw"


def test_a_plain_file_named_gz_is_plain(tmp_path: Path) -> None:
    (tmp_path / "a.raw.gz").write_bytes(b"% evt 3.0\n")

    source = Source(tmp_path / "a.raw.gz")

    assert (source.compression, source.inner_name, source.size) == ("", "a.raw.gz", 10)
    assert source.is_plain


@pytest.mark.parametrize("kind", COMPRESS)
def test_two_streams_in_one_file_are_one_content(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.raw.{kind}"
    path.write_bytes(COMPRESS[kind](b"first ") + COMPRESS[kind](b"second"))

    assert Source(path).read() == b"first second"


@pytest.mark.parametrize("kind", COMPRESS)
@given(moves=st.lists(st.tuples(st.integers(0, 900), st.integers(0, 400)), max_size=6))
def test_seeking_in_compressed_content_equals_seeking_in_the_plain_file(
    tmp_path_factory: pytest.TempPathFactory, kind: str, moves: list[tuple[int, int]]
) -> None:
    content = bytes(range(256)) * 3
    path = tmp_path_factory.mktemp("seek") / "a.raw"
    path.write_bytes(COMPRESS[kind](content))

    with Source(path).open() as file:
        for to, length in moves:
            file.seek(to)
            assert file.read(length) == content[to : to + length]
            assert file.tell() == min(to, len(content)) + len(content[to : to + length])
        assert file.seek(-3, io.SEEK_END) == len(content) - 3
        assert file.read() == content[-3:]


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
def test_a_cut_compressed_file_keeps_what_came_before_and_says_so(
    tmp_path: Path, data: bytes, kind: str, part: float
) -> None:
    whole = COMPRESS[kind](data)
    path = tmp_path / "a.raw"
    path.write_bytes(whole[: int(part * len(whole))])

    got, err = read_up_to_the_damage(Source(path))

    assert err is not None
    assert err.reason == "truncated"
    assert err.path == str(path)
    assert "--on-error skip" in str(err)
    assert data.startswith(got)
    # bzip2 has blocks of 900 kB, all or nothing.
    assert kind == "bz2" or len(got) > (part - 0.05) * len(data)
    assert Source(path).head == got[:HEAD_BYTES]


@pytest.mark.parametrize("kind", COMPRESS)
def test_a_flipped_byte_in_a_compressed_file_is_never_another_error(
    tmp_path: Path, kind: str
) -> None:
    rng = np.random.default_rng(1)
    whole = COMPRESS[kind](bytes(rng.integers(0, 40, 3000).astype(np.uint8)))
    path = tmp_path / "a.raw"
    for at in rng.choice(np.arange(6, len(whole)), 150).tolist():
        damaged = bytearray(whole)
        damaged[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        got, err = read_up_to_the_damage(Source(path))
        assert err is not None or len(got) <= 3000 or kind == "gz"
        assert len(Source(path).head) <= HEAD_BYTES


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_a_member_of_a_zip_reads_as_the_plain_file(
    tmp_path: Path, data: bytes, method: int
) -> None:
    archive = zipped(tmp_path / "a.zip", {"deep/er/rec.raw": data, "other": b"x"}, method)

    source = Source(f"zip://deep/er/rec.raw::{archive}")

    assert source.size == SIZE
    assert source.inner_name == "rec.raw"
    assert source.head == data[:HEAD_BYTES]
    assert gather(source) == data
    assert gather(source, start=SIZE - 3) == data[-3:]
    assert source.local().read_bytes() == data
    assert source.beside("other") is None


def test_archives_nest(tmp_path: Path, data: bytes) -> None:
    inner = zipped(tmp_path / "inner.zip", {"rec.raw.gz": gzip.compress(data)})
    outer = zipped(tmp_path / "outer.zip", {"inner.zip": inner.read_bytes()})

    source = Source(f"zip://rec.raw.gz::zip://inner.zip::{outer}")

    assert source.compression == "gzip"
    assert source.inner_name == "rec.raw"
    assert gather(source) == data


def test_a_recording_in_an_archive_opens_by_name(tmp_path: Path) -> None:
    record = bytes([1, 2, 128, 0, 5])
    archive = zipped(tmp_path / "a.zip", {"rec.bin": record * 3})

    recording = eventkit.open(f"zip://rec.bin::{archive}")

    assert recording.events.x.tolist() == [1, 1, 1]
    assert recording.format == "atis-bin"


def test_a_member_that_is_not_there_lists_what_is(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"one": b"", "two": b""})

    with pytest.raises(MissingDataError, match="one, two"):
        Source(f"zip://three::{archive}")


def test_what_is_no_archive_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"no archive")

    with pytest.raises(FormatError, match=r"a\.zip: expected whole zip data"):
        Source(f"zip://one::{tmp_path / 'a.zip'}")


def test_a_damaged_archive_is_a_format_error_wherever_it_is_hit(tmp_path: Path) -> None:
    whole = zipped(tmp_path / "a.zip", {"one": bytes(range(200)) * 3}).read_bytes()
    path = tmp_path / "b.zip"
    rng = np.random.default_rng(2)
    outcomes = set()
    for turn in range(600):
        damaged = bytearray(whole)
        damaged[turn % len(damaged)] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            outcomes.add(Source(f"zip://one::{path}").read() == bytes(range(200)) * 3)
        except (FormatError, MissingDataError) as err:
            outcomes.add(type(err).__name__ if "b.zip" in str(err) else str(err))
    assert outcomes == {True, "FormatError", "MissingDataError"}


def test_a_locked_member_is_refused_in_our_words(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"one": b"secret"})
    data = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + flags] |= 1
    path.write_bytes(data)

    with pytest.raises(FormatError, match="encrypted"):
        Source(f"zip://one::{path}").read()


@given(
    content=st.binary(max_size=40),
    zeros=st.sampled_from([0, 1, 511, 512, 2000]),
    stride=st.integers(1, 9),
    start=st.integers(0, 12),
    size=st.sampled_from([16, 64, 4096]),
    harmless=st.booleans(),
)
def test_records_are_whole_and_what_is_left_over_is_refused(
    tmp_path_factory: pytest.TempPathFactory,
    content: bytes,
    zeros: int,
    stride: int,
    start: int,
    size: int,
    harmless: bool,
) -> None:
    path = tmp_path_factory.mktemp("a") / "a.raw"
    data = b"r" + content + bytes(zeros)  # no magic number of a compression
    path.write_bytes(data)
    records = [data[k : k + stride] for k in range(start, len(data) - stride + 1, stride)]
    while not harmless and records and not any(records[-1]):
        records.pop()
    whole = max(0, len(data) - start) // stride * stride
    held = whole - stride * len(records)
    stop = start + (whole - held if held >= 512 else whole)

    got, error = b"", None
    try:
        for offset, piece in Source(path).records(stride, size, start=start, zeros=harmless):
            assert offset == start + len(got)
            assert len(piece) % stride == 0
            got += piece.tobytes()
    except FormatError as err:
        error = err

    assert got == data[start:stop]
    assert (error is None) == (stop >= len(data))
    assert error is None or error.offset == stop


def test_a_dictionary_of_xz_that_takes_gigabytes_is_refused(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 16}]
    made = bytearray(lzma.compress(b"% evt 2.0\n" + bytes(40), filters=filters))
    size = 4 * (made[12] + 1)  # of the block's header: its flags, the filter, its property
    assert made[14] == 0x21
    made[16] = 40  # 4 GB less one
    made[12 + size - 4 : 12 + size] = zlib.crc32(made[12 : 12 + size - 4]).to_bytes(4, "little")
    (tmp_path / "a.raw.xz").write_bytes(made)

    with pytest.raises(FormatError, match="whole xz data"):
        Source(tmp_path / "a.raw.xz").read()


def test_spooled_copies_go_with_their_source(tmp_path: Path) -> None:
    path = tmp_path / "rec.raw.gz"
    path.write_bytes(gzip.compress(b"content"))
    source = Source(path)
    copy = source.local()

    assert copy.name == "rec.raw"
    assert copy == source.local()
    del source
    gc.collect()

    assert not copy.parent.exists()
    assert path.exists()


def test_a_plain_file_is_never_copied(tmp_path: Path) -> None:
    path = tmp_path / "rec.raw"
    path.write_bytes(b"content")

    assert Source(path).local() == path


def test_pipes_sockets_and_devices_are_refused_and_do_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.raw")
    server = socket.socket(socket.AF_UNIX)
    home = Path.cwd()
    os.chdir(tmp_path)  # names of sockets are short
    try:
        server.bind("sock.raw")
        for path in ("pipe.raw", "sock.raw", "/dev/zero"):
            with pytest.raises(SettingsError, match="write it to a file first"):
                eventkit.open(path)
    finally:
        server.close()
        os.chdir(home)


def test_nothing_is_left_open(tmp_path: Path, data: bytes) -> None:
    for kind, compress in COMPRESS.items():
        (tmp_path / f"a.{kind}").write_bytes(compress(data))
    (tmp_path / "plain").write_bytes(data)
    archive = zipped(tmp_path / "a.zip", {"one": data})
    names = [*(tmp_path / f"a.{kind}" for kind in COMPRESS), tmp_path / "plain"]
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("open files are counted in /proc")

    before = len(list(descriptors.iterdir()))
    for name in [*names, f"zip://one::{archive}"]:
        source = Source(name)
        _ = source.head
        pieces = source.pieces()
        next(pieces)
        pieces.close()
        source.read()

    assert len(list(descriptors.iterdir())) == before


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("foo://bar/a.raw", "expected a path or a URL that fsspec opens"),
        ("zip://member.raw", "expected zip://MEMBER::ARCHIVE"),
        ("zip://member.raw::", "expected zip://MEMBER::ARCHIVE"),
    ],
)
def test_what_is_no_place_is_refused_in_our_words(name: str, told: str) -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(SettingsError, match=told):
        Source(name)


def test_a_name_that_no_file_can_have_is_not_there() -> None:
    with pytest.raises(MissingDataError, match="no such file or folder"):
        Source("x" * 300)


def test_no_such_folder_file_or_scheme(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="no such file or folder"):
        Source(tmp_path / "none.raw")
    folder = Source(tmp_path)
    assert folder.is_dir
    assert (folder.head, folder.size, folder.compression) == (b"", None, "")


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    """A store of objects on this machine, spoken to over HTTP as the real one is."""
    server_module = pytest.importorskip("moto.server", reason="needs moto[server]")
    pytest.importorskip("s3fs", reason="needs s3fs")
    import fsspec

    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        store = fsspec.filesystem("s3", skip_instance_cache=True)
        store.mkdir("recordings")
        yield store
        fsspec.get_filesystem_class("s3").clear_instance_cache()
    server.stop()


def test_an_object_reads_as_the_plain_file(bucket: Any, data: bytes) -> None:
    bucket.pipe("recordings/day/rec.raw", data)

    source = Source("s3://recordings/day/rec.raw")

    assert source.size == SIZE
    assert source.inner_name == "rec.raw"
    assert source.head == data[:HEAD_BYTES]
    assert gather(source) == data
    assert gather(source, start=SIZE - 9) == data[-9:]
    assert source.local().read_bytes() == data
    assert source.beside("rec.raw") is None


def test_compressed_objects_and_archives_in_a_store_read_as_the_plain_file(
    bucket: Any, tmp_path: Path, data: bytes
) -> None:
    bucket.pipe("recordings/rec.raw.gz", gzip.compress(data))
    bucket.pipe("recordings/a.zip", zipped(tmp_path / "a.zip", {"rec.raw": data}).read_bytes())

    assert gather(Source("s3://recordings/rec.raw.gz")) == data
    assert gather(Source("zip://rec.raw::s3://recordings/a.zip")) == data


def test_a_recording_in_a_store_opens_by_its_url(bucket: Any) -> None:
    bucket.pipe("recordings/rec.bin", bytes([1, 2, 128, 0, 5]) * 4)

    recording = eventkit.open("s3://recordings/rec.bin")

    assert recording.format == "atis-bin"
    assert len(recording.events) == 4
    assert len(recording.between(5, 6)) == 4


def test_an_object_that_is_not_there(bucket: Any) -> None:
    with pytest.raises(MissingDataError, match="no such object"):
        Source("s3://recordings/none.raw")


def test_a_reader_of_folders_sees_a_folder_of_the_store(bucket: Any) -> None:
    bucket.pipe("recordings/folder/rec.raw", b"x")

    assert Source("s3://recordings/folder").is_dir
