"""Published data sets from their folders to a store."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import named_miniatures as sets
import pytest
from check_helpers import audit, kinds
from helpers import run_tool
from pipelines_helpers import tree_bytes

from eventkit.clip_settings import ClipSettings
from eventkit.store import open_store
from pipelines.convert import convert_raw
from pipelines.datasets.splits import BY_RECORDING
from pipelines.executors import RunSettings
from pipelines.opening import ReadSettings

ALL = [
    ("pokerevent", sets.pokerevent, 7, 0),
    ("hardvs", partial(sets.hardvs, rawframes="deep"), 9, 1),
    ("nmnist", sets.nmnist, 8, 0),
    ("ncaltech101", sets.ncaltech101, 6, 0),
    ("asldvs", sets.asldvs, 6, 0),
    ("dvs128gesture", partial(sets.dvs128gesture, users=(1, 24)), 16, 0),
    ("dailydvs200", partial(sets.dailydvs200, lists=True), 4, 0),
    ("nimagenet", sets.nimagenet, 3, 0),
]


@pytest.mark.parametrize(("name", "make", "clips", "missing"), ALL, ids=[row[0] for row in ALL])
def test_a_set_is_converted_under_its_name_and_by_its_files_alike(
    tmp_path: Path, name: str, make: Callable[[Path], Path], clips: int, missing: int
) -> None:
    raw = make(tmp_path / "raw")
    before = tree_bytes(raw, hidden=True)

    for store, dataset in (("a", name), ("b", None)):
        outcome = convert_raw(
            [raw],
            tmp_path / store,
            clip=ClipSettings(bins=2),
            read=ReadSettings(),
            layout="auto",
            rule=BY_RECORDING,
            run=RunSettings(executor="inline"),
            say=lambda _: None,
            dataset=dataset,
        )

    assert outcome.clips == len(open_store(tmp_path / "a")) == clips
    assert [bad["reason"] for bad in outcome.quarantine] == ["missing"] * missing
    plans = [(tmp_path / store / ".eventkit" / "plan.json").read_bytes() for store in "ab"]
    assert plans[0] == plans[1]
    assert -1 not in open_store(tmp_path / "a").pack("pack-00000").labels
    assert tree_bytes(raw, hidden=True) == before


def test_the_command_says_which_set_it_takes_a_folder_for(tmp_path: Path) -> None:
    sets.hardvs(tmp_path / "raw", first=1)

    done = run_tool("convert", "raw", "--bins", "2", "--executor", "inline", cwd=tmp_path)

    assert done.returncode == 3, done.stderr
    for words in (
        "9 recordings (HARDVS: lists train_label.txt, val_label.txt, test_label.txt)",
        "taken for HARDVS by the names of its files",
        "labels of the lists count from 1, as folders do; kept from 0",
        "missing: 1 recording of the lists, the first is action_002/dvSave-2021_07_30_10_44_40",
        "store: 9 clips",
    ):
        assert words in done.stdout
    plan = json.loads((tmp_path / "store" / ".eventkit" / "plan.json").read_bytes())
    assert plan["classes"] == {"0": "walking", "1": "sitting down", "299": "waving"}


def test_the_command_refuses_a_root_without_tonic(tmp_path: Path) -> None:
    sets.nmnist(tmp_path / "raw")

    done = run_tool("convert", "raw", "--root", "raw", cwd=tmp_path)

    assert done.returncode == 2
    assert "expected tonic:NAME as RAW with --root, got raw" in done.stderr


def test_an_audit_knows_what_a_set_knows(tmp_path: Path) -> None:
    found = audit(sets.hardvs(tmp_path / "raw"))

    assert found.found.named is not None
    assert "no_size" not in kinds(found)
    assert "missing" in kinds(found)
