"""Parquet through `pyarrow`: columns ``t, x, y, p``, a row group for each million events.

Times are int64 microseconds; the metadata of the schema has ``t_unit`` and ``sensor_size``. Pages
have checksums, so that a damaged one is noticed. Times are stored as differences
(``DELTA_BINARY_PACKED``), which halves the file or better. Equal events give equal bytes under one
version of pyarrow, which writes its name into the file.
"""

from __future__ import annotations

from pathlib import Path

from eventkit._optional import require
from eventkit.ledger import Ledger
from eventkit.recording import Recording
from eventkit.writers.base import Contents, left_out

ROW_GROUP = 1 << 20


class ParquetWriter:
    """Writer of Parquet tables."""

    name = "parquet"
    suffixes = (".parquet",)

    def losses(self, contents: Contents) -> list[str]:
        """Frames, triggers and IMU are left out."""
        return left_out(contents, "Parquet")

    def write(self, recording: Recording, path: Path, *, ledger: Ledger) -> None:
        """Write the table, a row group at a time."""
        arrow = require("pyarrow", extra="parquet", purpose="writing Parquet files")
        parquet = require("pyarrow.parquet", extra="parquet", purpose="writing Parquet files")
        keys = {"t_unit": "us"}
        if recording.sensor_size is not None:
            keys["sensor_size"] = "{}x{}".format(*recording.sensor_size)
        types = {"t": arrow.int64(), "x": arrow.uint16(), "y": arrow.uint16(), "p": arrow.int8()}
        schema = arrow.schema(list(types.items()), metadata=keys)
        with parquet.ParquetWriter(
            str(path),
            schema,
            compression="zstd",
            use_dictionary=["p"],
            column_encoding={"t": "DELTA_BINARY_PACKED"},
            write_page_checksum=True,
        ) as writer:
            # Row groups of one length, however the reader cuts its chunks.
            for events in recording.chunks(n=ROW_GROUP, ledger=ledger):
                columns = [arrow.array(getattr(events, name)) for name in types]
                writer.write_table(arrow.table(columns, schema=schema), row_group_size=ROW_GROUP)
