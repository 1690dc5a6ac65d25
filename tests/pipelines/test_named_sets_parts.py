"""DVS128 Gesture: recordings that a table cuts into labelled parts, through the whole road."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from named_miniatures import GESTURES, dvs128gesture
from pipelines_helpers import tree_bytes

from eventkit.clip_settings import ClipSettings
from eventkit.errors import SettingsError
from eventkit.events import Events
from eventkit.frames import Frames, Picture
from eventkit.ledger import Ledger
from eventkit.recording import Chunk, Recording
from eventkit.store import open_store
from pipelines.convert import Outcome, convert_raw
from pipelines.datasets.discover import discover
from pipelines.datasets.splits import BY_RECORDING
from pipelines.executors import RunSettings
from pipelines.opening import ReadSettings, open_spec
from pipelines.shard import shard_store
from pipelines.shard_settings import ShardSettings
from pipelines.span import part_of

INLINE = RunSettings(executor="inline")


def convert(
    raw: Path, store: Path, *, clip: ClipSettings | None = None, read: ReadSettings | None = None
) -> Outcome:
    return convert_raw(
        [raw],
        store,
        clip=clip or ClipSettings(bins=2),
        read=read or ReadSettings(),
        layout="auto",
        rule=BY_RECORDING,
        run=INLINE,
        say=lambda _: None,
    )


def test_every_row_of_a_table_is_a_recording_with_its_label(tmp_path: Path) -> None:
    found = discover([dvs128gesture(tmp_path / "raw", users=(1, 24))])

    assert len(found.recordings) == 4 * len(GESTURES)
    parts = [spec for spec in found.recordings if spec.id.startswith("user24_led/")]
    assert [(p.id, p.label, p.start_us, p.stop_us) for p in parts] == [
        (f"user24_led/{i:02d}", label - 1, start, stop)
        for i, (label, start, stop) in enumerate(GESTURES)
    ]
    assert {part.events for part in parts} == {"DvsGesture/user24_led.aedat"}
    assert found.classes[7] == "arm_roll"
    assert len(found.classes) == 11


def test_a_part_has_the_events_from_its_start_to_before_its_stop(tmp_path: Path) -> None:
    found = discover([dvs128gesture(tmp_path / "raw", users=(1,))])

    for spec, (_, start, stop) in zip(found.recordings, GESTURES, strict=False):
        recording = open_spec(found.root, spec, ReadSettings())
        assert recording.events.t.tolist() == list(range(start, stop, 100))
        assert recording.ledger.decoded == len(recording.events)


def test_parts_of_one_subject_stay_in_one_split(tmp_path: Path) -> None:
    found = discover([dvs128gesture(tmp_path / "raw", users=tuple(range(1, 24)) + (24,))])

    splits: dict[str, set[str]] = {}
    for spec in found.recordings:
        splits.setdefault(spec.id[:6], set()).add(spec.split)
    assert all(len(names) == 1 for names in splits.values())
    assert splits["user24"] == {"test"}
    assert {"train"} in splits.values()
    assert {"val"} in splits.values()
    assert "user" in found.split_rule


def test_the_labels_reach_the_shards_and_the_bytes_do_not_depend_on_the_run(tmp_path: Path) -> None:
    raw = dvs128gesture(tmp_path / "raw", users=(1, 2, 24))

    outcomes = [convert(raw, tmp_path / f"store{i}") for i in range(2)]
    manifest, _ = shard_store(
        tmp_path / "store0", tmp_path / "shards", settings=ShardSettings(), run=INLINE
    )

    assert [outcome.clips for outcome in outcomes] == [24, 24]
    store = open_store(tmp_path / "store0")
    labels = {
        clip.facts["recording"]: label
        for clip, label in zip(store, store.pack("pack-00000").labels.tolist(), strict=True)
    }
    assert labels["user02_led/02"] == 7
    counted = manifest["splits"]["test"]["classes"]
    assert {int(label): n for label, n in counted.items() if n} == {0: 2, 7: 4, 10: 2}
    assert tree_bytes(tmp_path / "store0") == tree_bytes(tmp_path / "store1")
    plans = [json.loads((tmp_path / f"store{i}/.eventkit/plan.json").read_bytes()) for i in (0, 1)]
    assert plans[0] == plans[1]
    assert convert(raw, tmp_path / "store0").did_nothing


def test_a_scan_that_was_kept_is_that_of_each_part(tmp_path: Path) -> None:
    raw, store = dvs128gesture(tmp_path / "raw", users=(1,)), tmp_path / "store"
    convert(raw, store)
    clean = tree_bytes(store)
    scans = (store / ".eventkit" / "scan.jsonl").read_bytes()
    shutil.rmtree(store)
    (store / ".eventkit").mkdir(parents=True)
    (store / ".eventkit" / "scan.jsonl").write_bytes(scans)

    convert(raw, store)

    assert tree_bytes(store) == clean
    assert (store / ".eventkit" / "scan.jsonl").read_bytes() == scans


def test_the_same_files_with_another_table_are_another_plan(tmp_path: Path) -> None:
    raw = dvs128gesture(tmp_path / "raw", users=(1,))
    convert(raw, tmp_path / "store")
    table = raw / "DvsGesture" / "user01_led_labels.csv"
    table.write_text(table.read_text().replace("1,1000,2000", "1,1000,2100"))

    with pytest.raises(SettingsError, match="labels or splits"):
        convert(raw, tmp_path / "store")


def test_parts_are_cut_further_into_clips(tmp_path: Path) -> None:
    raw = dvs128gesture(tmp_path / "raw", users=(1,))

    outcome = convert(raw, tmp_path / "store", clip=ClipSettings(bins=2, clip_us=500))

    assert outcome.clips == 2 * (2 + 3 + 1 + 2)
    assert outcome.totals["decoded"] == 2 * (10 + 15 + 8 + 11)


def test_damage_costs_the_parts_that_lie_behind_it(tmp_path: Path) -> None:
    raw = dvs128gesture(tmp_path / "raw", users=(1,))
    path = raw / "DvsGesture" / "user01_led.aedat"
    path.write_bytes(path.read_bytes()[: -8 * 24])

    kept = convert(raw, tmp_path / "kept", read=ReadSettings(on_error="skip"))
    refused = convert(raw, tmp_path / "refused")

    assert [bad["recording"] for bad in kept.quarantine] == ["user01_led/03"]
    assert kept.totals["decoded"] == (10 + 15 + 4) + (10 + 15 + 8 + 11)
    assert [bad["recording"] for bad in refused.quarantine] == [
        f"user01_led/0{i}" for i in range(4)
    ]


def test_a_recording_without_its_table_is_named_as_missing(tmp_path: Path) -> None:
    raw = dvs128gesture(tmp_path / "raw", users=(1, 2))
    (raw / "DvsGesture" / "user02_led_labels.csv").unlink()

    outcome = convert(raw, tmp_path / "store")

    assert outcome.clips == 12
    (bad,) = outcome.quarantine
    assert bad["reason"] == "missing"
    assert bad["recording"] == "user02_led (its table of labels)"


@pytest.mark.parametrize("row", ["0,5,9", "12,5,9", "3,9,9", "3,9", "3,x,9", "3,1e3,9"])
def test_a_bad_row_of_a_table_is_named(tmp_path: Path, row: str) -> None:
    raw = dvs128gesture(tmp_path / "raw", users=(1,))
    with (raw / "DvsGesture" / "user01_led_labels.csv").open("a") as file:
        file.write(row)

    with pytest.raises(SettingsError, match=r"user01_led_labels.csv:6: expected <label>,<start>"):
        discover([raw])


def test_a_part_books_the_drops_that_fall_into_it(tmp_path: Path) -> None:
    def source(ledger: Ledger):
        for first in (0, 50):
            t = np.arange(first, first + 50, 10)
            zeros = np.zeros(5, np.uint16)
            ledger.decoded += 7
            ledger.words += 8
            ledger.skipped["marker"] += 1
            ledger.drop({"outside": 2})
            dropped = {"outside": np.array([first + 15, first + 45])}
            yield Chunk(Events(x=zeros, y=zeros, t=t, p=zeros), dropped)

    whole = Recording(Path("a"), "made", (8, 8), "given", source)

    ledger = Ledger()
    part = part_of(whole, 10, 40).load(ledger=ledger)

    assert part.t.tolist() == [10, 20, 30]
    assert (ledger.decoded, dict(ledger.dropped)) == (4, {"outside": 1})
    assert (ledger.words, dict(ledger.skipped)) == (8, {"marker": 1})
    late = Ledger()
    assert part_of(whole, 60, 1_000).load(ledger=late).t.tolist() == [60, 70, 80, 90]
    assert (late.decoded, late.words) == (6, 8)


def test_a_part_has_the_frames_of_its_time(tmp_path: Path) -> None:
    times = np.array([0, 10, 20, 30])

    def reader(indices):
        return (Picture(np.full((2, 2, 1), i, np.uint8)) for i in indices)

    frames = Frames(times, times, times + 5, (2, 2), 1, "recorded", reader)
    whole = Recording(Path("a"), "made", frames=frames)

    part = part_of(whole, 10, 30)

    assert part.frames is not None
    assert part.frames.t_us.tolist() == [10, 20]
    assert part.frames.images[:, 0, 0, 0].tolist() == [1, 2]
    assert part_of(whole, 40, 50).frames is None


def test_a_part_without_events_is_set_aside(tmp_path: Path) -> None:
    raw = dvs128gesture(tmp_path / "raw", users=(1,))
    with (raw / "DvsGesture" / "user01_led_labels.csv").open("a") as file:
        file.write("3,90000,95000")
    found = discover([raw])
    last = next(spec for spec in found.recordings if spec.id == "user01_led/04")

    assert len(open_spec(found.root, last, ReadSettings()).events) == 0
    (bad,) = convert(raw, tmp_path / "store").quarantine
    assert (bad["recording"], bad["reason"]) == ("user01_led/04", "empty")
