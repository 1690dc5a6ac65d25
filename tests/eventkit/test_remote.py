"""What a remote store raises comes out as one sentence with a cure, never as its own class."""

from __future__ import annotations

import gzip
import io
import os
from typing import Any

import fsspec
import numpy as np
import pytest

from eventkit.errors import MissingDataError, SettingsError
from eventkit.remote import RemoteFile, remote_faults
from eventkit.sources import Source

URL = "s3://no-such-bucket/rec.raw"


class NoCredentialsError(Exception):
    """As that of botocore, which is no `OSError`."""


class Failing(io.BytesIO):
    """A file whose connection breaks after the first read."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell():
            msg = "Connection was closed\nbefore the end"
            raise RuntimeError(msg)
        return super().read(size)

    def readinto(self, buffer: Any, /) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


@pytest.fixture
def without_aws(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No settings of AWS, wherever they may come from."""
    pytest.importorskip("s3fs", reason="needs s3fs")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    # Nothing listens at the port "discard", and nothing outside this machine is asked.
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    return monkeypatch


def told(ran: Any, code: int) -> str:
    assert ran.returncode == code, ran.stderr
    assert len(ran.stderr.splitlines()) == 1, ran.stderr
    return str(ran.stderr)


def test_a_store_without_credentials_is_one_line(tool: Any, without_aws: Any) -> None:
    line = told(tool("info", URL), 2)

    assert line.startswith(f"error: {URL}: expected an object that may be read, got NoCredentials")
    assert "AWS_PROFILE" in line


def test_a_store_that_does_not_answer_is_one_line(
    tool: Any, without_aws: pytest.MonkeyPatch
) -> None:
    without_aws.setenv("AWS_ACCESS_KEY_ID", "test")
    without_aws.setenv("AWS_SECRET_ACCESS_KEY", "test")

    line = told(tool("info", URL), 6)

    assert line.startswith(f"error: {URL}: expected the store to answer, got EndpointConnection")
    assert "check its address and the network" in line


@pytest.mark.parametrize("how", ["read", "readinto"])
def test_a_connection_that_breaks_in_the_middle_is_an_error_of_the_system(how: str) -> None:
    file = RemoteFile(Failing(bytes(100)), URL)
    assert file.read(10) == bytes(10)

    with pytest.raises(OSError, match=r"got RuntimeError \(Connection was closed before") as told:
        file.read(10) if how == "read" else file.readinto(np.empty(10, np.uint8).data)

    assert told.value.filename == URL


@pytest.mark.parametrize(
    ("raised", "given"),
    [
        (FileNotFoundError("x"), MissingDataError),
        (PermissionError("Forbidden"), SettingsError),
        (NoCredentialsError("Unable to locate credentials"), SettingsError),
        (TimeoutError("late"), TimeoutError),
        (ValueError("odd"), OSError),
    ],
    ids=["missing", "forbidden", "credentials", "timeout", "other"],
)
def test_every_class_has_its_own_answer(raised: Exception, given: type[Exception]) -> None:
    with pytest.raises(given), remote_faults(URL):
        raise raised


def test_a_file_is_closed_with_the_one_of_the_store() -> None:
    inner = Failing(bytes(3))

    with RemoteFile(inner, URL) as file:
        assert file.seek(-1, os.SEEK_END) == file.tell() == 2

    assert inner.closed


@pytest.mark.parametrize("kind", [TimeoutError, ConnectionResetError])
def test_a_store_that_goes_silent_is_no_damage_of_what_is_compressed(kind: type[OSError]) -> None:
    with fsspec.open("memory://silent.raw.gz", "wb") as file:
        file.write(gzip.compress(b"abc"))
    source = Source("memory://silent.raw.gz")
    assert source.compression == "gzip"

    with pytest.raises(kind, match="late"), source.faults():
        raise kind("late")
