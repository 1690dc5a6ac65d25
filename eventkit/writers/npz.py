"""``.npz`` with the names of SpikingJelly and HARDVS: ``t, x, y, p``, and ``sensor_size`` (W, H).

Each column is spooled to a file of its own and then becomes a member, not deflated: memory holds
one part of the events, and readers can take the columns as they lie in the file.
"""

from __future__ import annotations

import io
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from eventkit.atomic import scratch
from eventkit.ledger import Ledger
from eventkit.recording import Recording
from eventkit.writers.base import Contents, event_parts, left_out

TYPES: dict[str, np.dtype[Any]] = {
    "t": np.dtype("<i8"),
    "x": np.dtype("<u2"),
    "y": np.dtype("<u2"),
    "p": np.dtype("|u1"),
}

_PIECE = 1 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)


class NpzWriter:
    """Writer of ``.npz`` archives."""

    name = "npz"
    suffixes = (".npz",)

    def losses(self, contents: Contents) -> list[str]:
        """Frames, triggers and IMU are left out."""
        return left_out(contents, "npz")

    def write(self, recording: Recording, path: Path, *, ledger: Ledger) -> None:
        """Write the archive; equal events give equal bytes."""
        with scratch(path) as folder:
            columns = {name: folder / name for name in TYPES}
            size = _spool(recording, columns, ledger)
            with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
                for name, column in columns.items():
                    _add(archive, name, (size,), TYPES[name], column)
                if recording.sensor_size is not None:
                    sides = folder / "sensor_size"
                    sides.write_bytes(np.array(recording.sensor_size, "<i8").tobytes())
                    _add(archive, "sensor_size", (2,), np.dtype("<i8"), sides)


def _spool(recording: Recording, columns: dict[str, Path], ledger: Ledger) -> int:
    files = {name: column.open("wb") for name, column in columns.items()}
    size = 0
    try:
        for events in event_parts(recording, ledger):
            size += len(events)
            for name, file in files.items():
                values = np.ascontiguousarray(getattr(events, name), TYPES[name])
                file.write(values.data)
    finally:
        for file in files.values():
            file.close()
    return size


def _add(
    archive: zipfile.ZipFile,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    column: Path,
) -> None:
    head = io.BytesIO()
    described = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(head, described)
    info = zipfile.ZipInfo(f"{name}.npy", _EPOCH)
    info.external_attr = 0o600 << 16
    info.file_size = head.tell() + column.stat().st_size  # decides whether 64 bits are needed
    with archive.open(info, "w") as member, column.open("rb") as file:
        member.write(head.getvalue())
        shutil.copyfileobj(file, member, _PIECE)
