"""What a waiting person reads."""

from __future__ import annotations

import io

import pytest

from velora.progress import (
    LiveReporter,
    ParameterRow,
    PlainReporter,
    Step,
    clock,
    make_reporter,
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
STEP = Step(epoch=3, epochs=20, done=16, total=64, loss=0.5, clips_per_s=8.0, seconds_left=3700)


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

    assert eager.getvalue().count("epoch 3/20: 16/64 clips") == 3
    assert patient.getvalue() == ""
    assert isinstance(make_reporter(patient), PlainReporter)


def test_the_parameter_table_says_what_share_trains() -> None:
    rows = [ParameterRow("frozen trunk", 900, 0), ParameterRow("head", 100, 100)]

    lines = parameter_lines([*rows, ParameterRow("total", 1000, 100)])

    assert lines[1].split() == ["frozen", "trunk", "900", "0"]
    assert "trains 10.00% of all parameters, head included" in lines[-1]


def test_durations_are_shown_as_clocks() -> None:
    assert [clock(s) for s in (0.4, 59.6, 3661)] == ["0:00", "1:00", "1:01:01"]
