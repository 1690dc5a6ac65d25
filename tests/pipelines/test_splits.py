"""Splits: official ones win, groups stay together, new data moves nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipelines_helpers import write_recording

from eventkit.errors import SettingsError
from pipelines.datasets.discover import RecordingSpec, discover
from pipelines.datasets.splits import SplitRule, group_of, split_recordings


def specs(ids: list[str], *, label_of=lambda _: -1, split: str = "") -> list[RecordingSpec]:
    return [RecordingSpec(i, f"{i}.bin", None, split, label_of(i), "") for i in ids]


def split_of(recordings: list[RecordingSpec], **rule: str) -> dict[str, str]:
    found, _ = split_recordings(recordings, SplitRule(**rule), official=None)
    return {r.id: r.split for r in found}


SUBJECTS = [f"c{c}/s{s:02d}/{k}" for c in range(3) for s in range(40) for k in range(4)]


@pytest.mark.parametrize("by", ["2", r"/(s\d+)/", r"s\d+"])
@pytest.mark.parametrize("method", ["hash", "stratified"])
def test_no_group_is_in_two_splits(by: str, method: str) -> None:
    splits = split_of(specs(SUBJECTS, label_of=lambda i: int(i[1])), by=by, method=method)

    per_subject: dict[str, set[str]] = {}
    for name, split in splits.items():
        per_subject.setdefault(name.split("/")[1], set()).add(split)
    assert all(len(found) == 1 for found in per_subject.values())
    assert set(splits.values()) == {"train", "val", "test"}


@given(st.sets(st.integers(0, 39), min_size=1), st.sets(st.integers(0, 39)))
def test_new_recordings_and_groups_move_none(there: set[int], added: set[int]) -> None:
    def of(subjects: set[int]) -> list[RecordingSpec]:
        return specs([i for i in SUBJECTS if int(i.split("/")[1][1:]) in subjects])

    before = split_of(of(there), by="2")
    after = split_of(of(there | added), by="2")

    assert {name: after[name] for name in before} == before


def test_without_a_rule_every_recording_is_a_group() -> None:
    ids = [f"{i:05d}" for i in range(2_000)]

    shares = Counter(split_of(specs(ids)).values())

    assert abs(shares["train"] - 1600) < 100
    assert abs(shares["val"] - 200) < 60
    assert abs(shares["test"] - 200) < 60


@pytest.mark.parametrize("each", [10, 13, 100])
def test_stratified_gives_every_class_its_shares(each: int) -> None:
    ids = [f"{c}/{i}" for c in range(7) for i in range(each)]

    splits = split_of(specs(ids, label_of=lambda i: int(i[0])), method="stratified")

    for c in range(7):
        counts = Counter(split for name, split in splits.items() if name[0] == str(c))
        assert abs(counts["train"] - 0.8 * each) <= 1
        assert abs(counts["val"] - 0.1 * each) <= 1
        assert abs(counts["test"] - 0.1 * each) <= 1


def test_stratified_makes_every_split_of_few_recordings() -> None:
    ids = [f"{c}/{i}" for c in range(4) for i in range(3)]

    splits = split_of(specs(ids, label_of=lambda i: int(i[0])), method="stratified")

    assert Counter(splits.values()) == {"train": 10, "val": 1, "test": 1}


def test_a_split_that_the_hash_leaves_empty_is_said_with_the_cure() -> None:
    _, words = split_recordings(specs(["a", "b"]), SplitRule(), official=None)

    assert words.endswith("; none in val, test: --split stratified deals them out")


def test_the_order_of_files_changes_nothing() -> None:
    recordings = specs(SUBJECTS, label_of=lambda i: int(i[1]))

    for method in ("hash", "stratified"):
        forward = split_of(recordings, by="2", method=method)
        assert split_of(recordings[::-1], by="2", method=method) == forward


@pytest.mark.parametrize("method", ["hash", "stratified"])
def test_official_splits_win_and_val_is_taken_out_of_train_by_group(method: str) -> None:
    official = [
        replace(r, split="test" if r.id.split("/")[1] > "s36" else "train") for r in specs(SUBJECTS)
    ]

    found, words = split_recordings(
        official, SplitRule(by="2", method=method), official="list files"
    )

    for before, after in zip(official, found, strict=True):
        assert after.split == before.split or (before.split, after.split) == ("train", "val")
    val = {r.id.split("/")[1] for r in found if r.split == "val"}
    assert val
    assert val.isdisjoint(r.id.split("/")[1] for r in found if r.split == "train")
    assert words.startswith("list files; val is 10% of train")


def test_a_group_that_official_lists_tear_apart_is_counted() -> None:
    official = [
        replace(r, split="test" if r.id.endswith("0") else "train") for r in specs(SUBJECTS)
    ]

    _, words = split_recordings(official, SplitRule(by="2"), official="list files")

    assert "40 groups in more than one split" in words


@pytest.mark.parametrize(
    ("by", "words"),
    [
        ("3", "at least 3 folders above every recording and a level from 1, got 'c0/s00/0'"),
        ("0", "a level from 1"),
        ("nobody", "to match the path of every recording, got 'c0/s00/0'"),
        ("(", "a level or a regular expression, got '('"),
    ],
)
def test_a_rule_that_names_no_group_is_refused(by: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        group_of("c0/s00/0", by)

    assert words in str(caught.value)


def test_folders_of_sessions_are_split_by_the_rule(tmp_path: Path) -> None:
    for session in range(12):
        for i in range(3):
            stem = tmp_path / f"session{session:02d}" / f"{i}"
            write_recording(stem, seed=i, events=3, picture=False)

    found = discover([tmp_path], layout="flat", rule=SplitRule(by="1"))

    sessions = {(r.id.split("/")[0], r.split) for r in found.recordings}
    assert len(sessions) == 12
    assert found.split_rule.startswith("80/10/10 by hash of the group (1)")
