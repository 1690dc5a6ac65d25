"""The contract of readers, for the toy format; `pip install pytest hypothesis` and run pytest."""

from pathlib import Path

import toy_events

from eventkit.events import Events
from eventkit.testing import ReaderTests


class TestToy(ReaderTests):
    format = "toy"
    suffix = ".toy"
    max_events_per_byte = 1 / toy_events.RECORD.itemsize

    def write(self, events: Events, sensor_size: tuple[int, int], path: Path) -> None:
        toy_events.write(events, sensor_size, path)
