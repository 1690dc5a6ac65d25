"""The plan of a store: what its id depends on, and how another one is refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from convert_helpers import INLINE, convert
from pipelines_helpers import tree_bytes, write_recording

from eventkit.errors import SettingsError, UnsupportedFormatError
from pipelines.receipts import sealed
from pipelines.scan_log import SCAN_FILE
from pipelines.shard import shard_store
from pipelines.shard_settings import ShardSettings


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """Four recordings of two classes."""
    root = tmp_path / "here" / "raw"
    for label in range(2):
        for i in range(2):
            write_recording(root / f"c{label}" / f"{i:04d}", seed=10 * label + i)
    return root


def plan_of(raw: Path) -> dict:
    return json.loads((raw.parent / "store/.eventkit/plan.json").read_text())


def test_the_plan_depends_on_settings_and_inputs_alone(few: Path, tmp_path: Path) -> None:
    moved = tmp_path / "another" / "name"
    shutil.copytree(few, moved)
    for path in moved.rglob("*"):
        os.utime(path, ns=(1, 1))

    convert(few)
    convert(moved)

    text = (few.parent / "store/.eventkit/plan.json").read_text()
    assert text == (moved.parent / "store/.eventkit/plan.json").read_text()
    assert str(tmp_path) not in text
    assert tree_bytes(few.parent / "store") == tree_bytes(moved.parent / "store")


def test_other_settings_are_refused_before_anything_is_read(few: Path) -> None:
    convert(few, bins=4)
    before = tree_bytes(few.parent / "store", hidden=True)
    (few / "c0" / "0000.bin").unlink()  # would be set aside, or be another input

    with pytest.raises(SettingsError, match="bins 4 there, 5 now; clip_us None there, 9000 now"):
        convert(few, bins=5, clip_us=9000)

    assert tree_bytes(few.parent / "store", hidden=True) == before


def test_other_inputs_are_named_with_the_cure(few: Path) -> None:
    convert(few)
    write_recording(few / "c0" / "new", seed=5)
    write_recording(few / "c1" / "0001", seed=6)
    (few / "c1" / "0000.bin").unlink()
    (few / "c1" / "0000.png").unlink()

    words = (
        r"the recordings \(1 added, as c0/new; 1 removed, as c1/0000; 1 changed, as c1/0001\)\. "
        r"Give --out NEW --reuse .*store"
    )
    with pytest.raises(SettingsError, match=words):
        convert(few)


def test_labels_that_changed_are_told(few: Path) -> None:
    lines = ["c0/0000 1 0", "c0/0001 1 0", "c1/0000 1 1", "c1/0001 1 1"]
    (few / "train_label.txt").write_text("\n".join(lines))
    convert(few)
    (few / "train_label.txt").write_text("\n".join(lines).replace("c1/0001 1 1", "c1/0001 1 0"))

    with pytest.raises(SettingsError, match=r"something else: labels or splits\. Give --out NEW"):
        convert(few)


def test_a_store_of_a_newer_version_is_refused(few: Path) -> None:
    convert(few)
    path = few.parent / "store/.eventkit/plan.json"
    plan = json.loads(path.read_text())
    path.write_bytes(sealed({k: v for k, v in plan.items() if k != "digest"} | {"version": 2}))

    with pytest.raises(UnsupportedFormatError, match="got version 2, which a newer eventkit wrote"):
        convert(few)


def test_shards_list_every_setting_that_differs(few: Path) -> None:
    convert(few)
    store, shards = few.parent / "store", few.parent / "shards"
    shard_store(store, shards, settings=ShardSettings(), run=INLINE)
    before = tree_bytes(shards, hidden=True)

    with pytest.raises(SettingsError, match=r"num_shards None there, 2 now; seed 0 there, 1 now\."):
        shard_store(store, shards, settings=ShardSettings(seed=1, num_shards=2), run=INLINE)

    assert tree_bytes(shards, hidden=True) == before


def test_the_notes_of_a_scan_are_in_order_after_one_that_was_stopped(few: Path) -> None:
    notes = few.parent / "store" / SCAN_FILE
    convert(few)
    whole = notes.read_bytes()
    lines = whole.splitlines(keepends=True)
    shutil.rmtree(few.parent / "store")
    notes.parent.mkdir(parents=True)
    notes.write_bytes(lines[2] + lines[0] + lines[1][:40])

    convert(few)

    assert notes.read_bytes() == whole
    assert [json.loads(line)["id"] for line in lines] == [
        "c0/0000",
        "c0/0001",
        "c1/0000",
        "c1/0001",
    ]


def test_the_notes_of_other_files_stay_behind_those_of_the_set(few: Path) -> None:
    notes = few.parent / "store" / SCAN_FILE
    convert(few)
    whole = notes.read_bytes()
    old = (few / "c0" / "0000.bin").read_bytes()
    write_recording(few / "c0" / "0000", seed=77)
    with pytest.raises(SettingsError, match="1 changed"):
        convert(few)

    changed = notes.read_bytes().splitlines()

    assert len(changed) == 5
    assert changed[-1] in whole.splitlines()
    assert old != (few / "c0" / "0000.bin").read_bytes()
