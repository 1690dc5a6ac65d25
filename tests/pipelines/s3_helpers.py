"""An S3-speaking server behind a wire that a test can cut: both are processes of their own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from crash_helpers import everything

BUCKET = "bucket"
# Copies bytes both ways; killed, it resets every connection, and what the server has stays.
WIRE = """
import asyncio, sys
async def copy(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
async def serve(reader, writer):
    there, here = await asyncio.open_connection("127.0.0.1", int(sys.argv[2]))
    await asyncio.gather(copy(reader, here), copy(there, writer), return_exceptions=True)
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()
asyncio.run(main())
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, *, timeout: float = 60) -> None:
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    msg = f"nothing listens at port {port}"
    raise TimeoutError(msg)


@dataclass
class ObjectStore:
    """A server, the wire to it, and a client of the test that goes around the wire."""

    port: int
    server_port: int
    client: Any
    wires: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def connect(self) -> None:
        command = [sys.executable, "-c", WIRE, str(self.port), str(self.server_port)]
        self.wires.append(subprocess.Popen(command))
        wait_for(self.port)

    def cut(self) -> None:
        for wire in self.wires:
            wire.kill()
            wire.wait()
        self.wires.clear()

    def names(self, prefix: str) -> list[str]:
        """Return what lies below a prefix, relative to it."""
        whole = f"{BUCKET}/{prefix}"
        return sorted(name[len(whole) + 1 :] for name in self.client.find(whole))

    def upload(self, folder: Path, prefix: str) -> None:
        for path in folder.rglob("*"):
            if path.is_file():
                name = path.relative_to(folder).as_posix()
                self.client.pipe_file(f"{BUCKET}/{prefix}/{name}", path.read_bytes())

    def download(self, prefix: str, folder: Path) -> Path:
        for name in self.names(prefix):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.client.cat_file(f"{BUCKET}/{prefix}/{name}"))
        return folder


def assert_as_on_disk(bucket: ObjectStore, place: str, folder: Path, name: str, at: Path) -> None:
    """Compare what lies in a bucket with the folder of the same name, byte for byte."""
    ours = everything(bucket.download(f"{place}/{name}", at / "downloaded" / name))
    theirs = everything(folder / name)
    assert sorted(ours) == sorted(theirs)
    assert [path for path in ours if ours[path] != theirs[path]] == []


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """Start a server with an empty bucket; the environment leads to it, over the wire."""
    pytest.importorskip("moto.server", reason="needs moto[server]")
    s3fs = pytest.importorskip("s3fs", reason="needs s3fs")
    server_port, port = free_port(), free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(server_port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    settings = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        store = None
        s3fs.S3FileSystem.clear_instance_cache()  # which other tests have sent elsewhere
        try:
            wait_for(server_port)
            client = s3fs.S3FileSystem(
                endpoint_url=f"http://127.0.0.1:{server_port}", use_listings_cache=False
            )
            client.mkdir(BUCKET)
            store = ObjectStore(port, server_port, client)
            store.connect()
            yield store
        finally:
            if store is not None:
                store.cut()
            s3fs.S3FileSystem.clear_instance_cache()
            server.kill()
            server.wait()
