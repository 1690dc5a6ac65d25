"""External signals from one kind of camera to the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import eventkit
from eventkit.recording import Recording
from eventkit.triggers import (
    CHANNEL_DTYPE,
    KIND_DTYPE,
    PULSE,
    as_channels,
    as_kinds,
    channel_losses,
    count_kinds,
)
from eventkit.writers.evt import Evt3Writer


def test_kinds_become_channels_with_levels() -> None:
    kinds = np.array([(10, 1), (20, 2), (30, 3), (40, 8), (50, 9)], KIND_DTYPE)

    rows = as_channels(kinds)

    assert rows.tolist() == [(10, 0, 1), (20, 0, 0), (30, 0, 1), (40, 3, 1), (50, 3, 0)]
    assert as_channels(rows).tolist() == rows.tolist()


def test_what_is_no_edge_becomes_none_and_is_said() -> None:
    kinds = np.array([(10, 0), (20, 1), (30, 3), (40, 0), (50, 200), (60, 2)], KIND_DTYPE)

    assert as_channels(kinds).tolist() == [(20, 0, 1), (30, 0, 1), (60, 0, 0)]
    assert channel_losses(count_kinds(kinds)) == [
        "2 resets of the clock are not written: they are no edges of a channel",
        "1 pulses of the external input are written as rising edges",
        "1 signals of unknown kinds are not written",
    ]
    assert channel_losses(count_kinds(as_channels(kinds))) == []
    assert channel_losses(count_kinds(None)) == []


def test_times_alone_are_pulses_in_either_way() -> None:
    bare = np.array([(10,), (20,)], [("t", "<i8")])

    assert as_kinds(bare)["source"].tolist() == [PULSE, PULSE]
    assert as_channels(bare).tolist() == [(10, 0, 1), (20, 0, 1)]
    assert count_kinds(bare) == {PULSE: 2}


def test_channels_become_edges_of_the_external_input() -> None:
    rows = np.array([(10, 5, 1), (20, 5, 0)], CHANNEL_DTYPE)

    kinds = as_kinds(rows)

    assert kinds.tolist() == [(10, 1), (20, 2)]
    assert as_channels(kinds)["p"].tolist() == rows["p"].tolist()
    assert as_kinds(kinds).tolist() == kinds.tolist()


def test_exposures_of_a_davis_are_levels_in_evt3(shared: Path, tmp_path: Path) -> None:
    recording = eventkit.open(shared / "aedat4" / "davis346_first_170ms.aedat4")
    kinds = recording.triggers
    assert kinds is not None
    path = tmp_path / "a.raw"
    Evt3Writer().write(recording, path, ledger=eventkit.Ledger())

    found = eventkit.open(path).triggers

    assert found is not None
    exposures = found[found["source"] == 3]
    assert exposures["t"][exposures["p"] == 1].tolist() == kinds["t"][kinds["source"] == 8].tolist()
    assert exposures["t"][exposures["p"] == 0].tolist() == kinds["t"][kinds["source"] == 9].tolist()


def test_channels_that_aedat4_cannot_hold_are_said() -> None:
    pytest.importorskip("lz4")
    from eventkit.writers.aedat4 import Aedat4Writer
    from eventkit.writers.survey import survey

    rows = np.array([(10, 5, 1), (20, 6, 0)], CHANNEL_DTYPE)
    recording = Recording(
        path="a", format="made", sensor_size=(4, 4), side_data=lambda: {"triggers": rows}
    )

    assert Aedat4Writer().losses(survey(recording)) == [
        "2 triggers keep their time and edge, not their channel"
    ]
