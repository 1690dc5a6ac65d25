"""What a waiting person reads."""

from __future__ import annotations

import dataclasses
import io
import re
import time

import pytest

from velora.training.progress import (
    LiveReporter,
    ParameterRow,
    PlainReporter,
    Step,
    clock,
    make_reporter,
    memory,
    parameter_lines,
)

RECORD = {
    "epoch": 3,
    "loss": 0.51239,
    "train_top1": 0.9,
    "val_top1": 0.75,
    "clips_per_s": 12.34,
    "seconds_left": 61.2,
    "best": True,
}
STEP = Step(
    epoch=3,
    epochs=20,
    done=16,
    total=64,
    loss=0.5,
    clips_per_s=8.0,
    seconds_left=3700,
    top1=0.75,
    wait_share=0.124,
    memory_bytes=1_300 * 2**20,
    best_val=0.912,
)
TOLD = {
    "loss": "0.5000",
    "train": "0.750",
    "best val": "0.912",
    "clips/s": "8.0",
    "data wait": "12%",
    "memory": "1.3 GiB",
    "left": "1:01:40",
}


class Terminal(io.StringIO):
    """A terminal of 80 columns, as far as a program can ask."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("kind", ["plain", "live"])
def test_an_epoch_is_one_line_with_loss_accuracy_speed_and_time_left(kind: str) -> None:
    stream = io.StringIO()
    if kind == "live":
        pytest.importorskip("rich")
        reporter = LiveReporter(stream)
    else:
        reporter = PlainReporter(stream=stream)

    reporter.step(STEP)
    reporter.epoch(RECORD, epochs=20)
    reporter.checking("test [rgb]", 5, 10)
    reporter.note("path [bold] is no markup")
    reporter.close()

    expected = "epoch  3/20  loss 0.5124  train 0.900  val 0.750  12.3 clips/s  left 1:01  best"
    assert expected in stream.getvalue()
    assert "path [bold] is no markup" in stream.getvalue()


def test_without_a_terminal_steps_come_at_most_every_so_often() -> None:
    eager, patient = io.StringIO(), io.StringIO()

    for stream, every_s in ((eager, 0.0), (patient, 1000.0)):
        reporter = PlainReporter(every_s=every_s, stream=stream)
        for _ in range(3):
            reporter.step(STEP)

    told = ", ".join(f"{name} {value}" for name, value in TOLD.items())
    assert eager.getvalue() == f"  epoch 3/20: 16/64 clips, {told}\n" * 3
    assert patient.getvalue() == ""
    assert isinstance(make_reporter(patient), PlainReporter)


def test_a_terminal_shows_a_table_whose_values_stand_below_their_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    reporter = make_reporter(stream)
    assert isinstance(reporter, LiveReporter)

    reporter.step(STEP)
    while "memory" not in stream.getvalue():  # drawn by a thread of rich, four times a second
        time.sleep(0.01)
    reporter.close()

    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue()).replace("\r", "\n")
    lines = plain.split("\n")
    row = next(i for i, line in enumerate(lines) if "best val" in line)
    assert lines[row - 1].split()[:2] == ["epoch", "3/20"]
    assert lines[row - 1].split()[-1] == "16/64"
    assert max(map(len, lines[row - 1 : row + 2])) <= 80
    for name, value in TOLD.items():
        end = lines[row].index(name) + len(name)
        assert lines[row + 1][:end].endswith(value)


def test_before_the_first_val_there_is_no_best_one() -> None:
    stream = io.StringIO()

    PlainReporter(every_s=0.0, stream=stream).step(dataclasses.replace(STEP, best_val=None))

    assert "best val -, " in stream.getvalue()


def test_the_parameter_table_says_what_share_trains() -> None:
    rows = [ParameterRow("frozen trunk", 900, 0), ParameterRow("head", 100, 100)]

    lines = parameter_lines([*rows, ParameterRow("total", 1000, 100)])

    assert lines[1].split() == ["frozen", "trunk", "900", "0"]
    assert "trains 10.00% of all parameters, head included" in lines[-1]


def test_durations_are_shown_as_clocks() -> None:
    assert [clock(s) for s in (0.4, 59.6, 3661)] == ["0:00", "1:00", "1:01:01"]


def test_memory_is_shown_in_the_unit_that_suits_it() -> None:
    assert [memory(n * 2**20) for n in (0, 999, 1000, 24 * 1024)] == [
        "0 MiB",
        "999 MiB",
        "1.0 GiB",
        "24.0 GiB",
    ]
