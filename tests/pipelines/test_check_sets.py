"""What the audit finds by comparing recordings, lists, labels and names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from check_helpers import audit, kinds, only, write_lists, write_npz_set
from PIL import Image
from pipelines_helpers import atis_bytes, write_recording

import eventkit
from eventkit.samples import sample_key
from pipelines.datasets.discover import discover
from pipelines.datasets.splits import SplitRule


@pytest.fixture
def listed(raw: Path) -> Path:
    write_lists(raw)
    return raw


def test_the_same_bytes_under_two_names_are_a_duplicate(raw: Path) -> None:
    for suffix in (".bin", ".png"):
        shutil.copy(raw / f"test/c0/0000{suffix}", raw / f"test/c0/0002{suffix}")

    finding = only(audit(raw), "duplicate")

    assert (finding.path, finding.others) == ("test/c0/0000.bin", ("test/c0/0002.bin",))
    assert "got the same bytes as test/c0/0002.bin; keep one" in finding.message


def test_a_copy_in_another_split_is_shared_and_its_labels_are_named(raw: Path) -> None:
    splits = {recording.id: recording.split for recording in discover([raw]).recordings}
    source = next(name for name, split in splits.items() if split == "train" and "/c0/" in name)
    shutil.copy(raw / f"{source}.bin", raw / "test/c1/0002.bin")

    finding = only(audit(raw), "shared")

    assert {finding.path, *finding.others} == {f"{source}.bin", "test/c1/0002.bin"}
    assert "of train and test" in finding.message
    assert "with the labels c0, c1" in finding.message


def test_the_same_events_in_another_format_and_at_another_time_are_a_duplicate(raw: Path) -> None:
    events = eventkit.open(raw / "test/c0/0000.bin").events
    columns = {"x": events.x, "y": events.y, "t": events.t + 5_000_000, "p": events.p}
    np.savez(raw / "test/c0/0009.npz", **columns, width=34, height=34)

    finding = only(audit(raw), "duplicate")

    assert finding.others == ("test/c0/0009.npz",)
    assert "the same events in other files" in finding.message


def test_the_same_picture_of_two_recordings_is_told(raw: Path) -> None:
    shutil.copy(raw / "test/c0/0000.png", raw / "test/c0/0001.png")

    assert "the same pictures as" in only(audit(raw), "duplicate").message


def test_a_recording_of_another_sensor_is_told(raw: Path) -> None:
    x = np.full(200, 100)
    file = raw / "train/c1/0002.bin"
    file.write_bytes(atis_bytes(x, x, np.arange(0, 200_000, 1000), x * 0))

    finding = only(audit(raw), "sensor")

    assert finding.path == "train/c1/0002.bin"
    assert "a sensor of 34x34 as in 23 other recordings, got 240x180" in finding.message


def test_without_a_size_the_places_of_events_tell_another_sensor(tmp_path: Path) -> None:
    write_npz_set(tmp_path, number=4)
    columns = dict(np.load(tmp_path / "a" / "2.npz"))
    columns["x"][9] = 120
    np.savez(tmp_path / "a" / "2.npz", **columns)

    found = audit(tmp_path)

    assert kinds(found) == ["sensor", "no_size"]
    assert found.findings[0].path == "a/2.npz"
    assert "their events need 34x34" in found.findings[1].message


def test_a_picture_of_another_size_is_told(raw: Path) -> None:
    Image.fromarray(np.zeros((28, 20), np.uint8)).save(raw / "train/c1/0002.png")

    assert "a picture of 28x28" in only(audit(raw), "sensor").message


def test_a_set_of_two_cameras_is_a_note(tmp_path: Path) -> None:
    for label in "ab":
        for i in range(4):
            write_recording(tmp_path / label / f"{i}", seed=i + ord(label) * 10, picture=False)
            file = tmp_path / label / f"{i}.bin"
            if i % 2:
                file.write_bytes(file.read_bytes() + atis_bytes([100], [100], [300_000], [1]))

    assert "34x34 in 4, 240x180 in 4" in only(audit(tmp_path), "sizes").message


def test_a_recording_of_another_length_is_told_with_the_numbers(raw: Path) -> None:
    place = np.zeros(200, np.int64)
    t = np.linspace(0, 4_000_000, 200).astype(np.int64)
    (raw / "train/c1/0002.bin").write_bytes(atis_bytes(place, place, t, place))

    finding = only(audit(raw), "duration")

    assert finding.path == "train/c1/0002.bin"
    assert "(median 0.297 s, MAD 0.001 s" in finding.message
    assert "of 24 recordings), got 4 s" in finding.message


# Lists, labels, names.


def test_a_line_without_a_file_is_missing(listed: Path) -> None:
    (listed / "train/c0/0000.bin").unlink()
    (listed / "train/c0/0000.png").unlink()

    finding = only(audit(listed), "missing")

    assert (finding.path, finding.others) == ("train/c0/0000", ("train_label.txt:1",))


def test_a_file_without_a_line_is_unlisted(listed: Path) -> None:
    write_recording(listed / "train/c0/0009", seed=77)

    assert only(audit(listed), "unlisted").path == "train/c0/0009.bin"


@pytest.mark.parametrize("line", ["what is this", "../outside/secret 8 0", "/etc/passwd 8 0"])
def test_a_line_that_cannot_be_used_is_told_and_the_rest_is_checked(
    listed: Path, line: str
) -> None:
    with (listed / "train_label.txt").open("a") as file:
        file.write(f"{line}\n")

    finding = only(audit(listed), "bad_line")

    assert finding.path == "train_label.txt:19"
    assert "expected" in finding.message


def test_a_recording_on_two_lines_of_a_list_is_told(listed: Path) -> None:
    with (listed / "train_label.txt").open("a") as file:
        file.write("train/c0/0000 1 0\n")

    assert only(audit(listed), "listed_twice").path == "train_label.txt:19"


def test_a_recording_in_the_lists_of_two_splits_is_shared(listed: Path) -> None:
    with (listed / "test_label.txt").open("a") as file:
        file.write("train/c0/0000 1 0\n")

    finding = only(audit(listed), "shared")

    assert (finding.path, finding.others) == ("test_label.txt:7", ("train/c0/0000",))


def test_lists_of_which_nothing_is_there_are_told_line_by_line(tmp_path: Path) -> None:
    write_recording(tmp_path / "a" / "b", seed=1)
    (tmp_path / "train_label.txt").write_text("x/y 8 0\nx/z 8 0\n")

    assert kinds(audit(tmp_path)) == ["missing", "missing", "unlisted"]


def test_a_class_with_one_recording_is_told(raw: Path) -> None:
    write_recording(raw / "train/c9/0000", seed=99)

    assert only(audit(raw), "one_recording").path == "c9"


def test_class_names_that_differ_by_case_are_told(raw: Path) -> None:
    for i in range(2):
        write_recording(raw / f"train/C0/{i}", seed=500 + i)

    assert only(audit(raw), "case").others == ("c0",)


@pytest.mark.parametrize(
    ("ids", "told"),
    [((1, 2, 3), "got 1 to 3"), ((0, 1, 5), "3 ids up to 5, without 2, 3, 4")],
)
def test_class_ids_that_do_not_count_from_0_are_told(listed: Path, ids, told: str) -> None:
    for split in ("train", "test"):
        file = listed / f"{split}_label.txt"
        rows = [line.rsplit(None, 1) for line in file.read_text().splitlines()]
        file.write_text("".join(f"{head} {ids[int(label)]}\n" for head, label in rows))

    assert told in only(audit(listed), "label_ids").message


def test_a_label_against_the_rest_of_its_folder_is_told(listed: Path) -> None:
    file = listed / "train_label.txt"
    file.write_text(file.read_text().replace("train/c1/0003 1 1", "train/c1/0003 1 2"))

    finding = only(audit(listed), "label_conflict")

    assert finding.path == "train/c1/0003"
    assert "expected label 1 as of 5 other recordings" in finding.message


def test_recordings_without_labels_are_a_note(tmp_path: Path) -> None:
    for i in range(3):
        write_recording(tmp_path / f"{i}", seed=i)

    found = audit(tmp_path)

    assert only(found, "unlabelled").severity == "note"
    assert found.is_clean()
    assert not found.is_clean(strict=True)


def test_a_layout_that_cannot_be_told_is_a_finding_and_files_are_checked(tmp_path: Path) -> None:
    write_recording(tmp_path / "a" / "1", seed=1)
    write_recording(tmp_path / "a" / "b" / "2", seed=2)
    (tmp_path / "a" / "1.bin").write_bytes(b"")

    assert kinds(audit(tmp_path)) == ["empty", "layout", "unlabelled"]


def test_two_files_of_one_name_are_told_and_both_checked(raw: Path) -> None:
    (raw / "train/c0/0001.npz").write_bytes(b"")

    found = audit(raw)

    assert kinds(found) == ["empty", "same_name"]


def test_two_rgb_sides_are_told(raw: Path) -> None:
    shutil.copy(raw / "train/c0/0000.png", raw / "train/c0/0001.jpg")

    assert only(audit(raw), "two_pictures").path == "train/c0/0001"


def test_pictures_without_events_in_a_set_of_events_are_orphans(raw: Path) -> None:
    (raw / "train/c0/0001.bin").unlink()

    assert only(audit(raw), "orphan").path == "train/c0/0001.png"


@pytest.mark.parametrize("name", ["0077.bin.size.txt", "0077_timestamps.txt"])
def test_a_side_file_of_nothing_is_told(raw: Path, name: str) -> None:
    (raw / "train/c0" / name).write_text("34x34\n")

    assert only(audit(raw), "side_file").path == f"train/c0/{name}"


def test_side_files_of_recordings_that_are_there_are_fine(raw: Path) -> None:
    (raw / "train/c0/0000.bin.size.txt").write_text("34x34\n")
    (raw / "train/README.md").write_text("hello\n")

    assert audit(raw).findings == ()


def test_files_that_no_reader_knows_are_a_note(raw: Path) -> None:
    (raw / "train/c0/0000.part").write_bytes(b"?")

    assert "1 with .part" in only(audit(raw), "unknown").message


def test_names_that_come_to_one_key_of_a_sample_are_told(tmp_path: Path) -> None:
    write_recording(tmp_path / "a b", seed=1)
    forged = sample_key("a b", 0).removesuffix("_000000").removeprefix("a_b")
    write_recording(tmp_path / "a" / f"b{forged}", seed=2)

    found = audit(tmp_path, layout="flat")

    assert kinds(found) == ["same_name", "unlabelled"]


def test_a_group_that_official_splits_tear_apart_is_shared(tmp_path: Path) -> None:
    for split, subjects in (("train", ("anna", "ben")), ("test", ("ben", "cleo"))):
        for subject in subjects:
            for label in "xy":
                stem = tmp_path / split / label / f"{subject}_1"
                write_recording(stem, seed=sum(map(ord, split + subject + label)))

    assert audit(tmp_path).findings == ()
    finding = only(audit(tmp_path, rule=SplitRule(by="/([a-z]+)_")), "shared")

    assert finding.path == "ben"
    assert "got 2 in train and 2 in test" in finding.message


@pytest.mark.parametrize("method", ["hash", "stratified"])
def test_the_splits_of_a_rule_are_those_of_convert(tmp_path: Path, tool, method: str) -> None:
    raw = tmp_path / "raw"
    for subject in "abcdefgh":
        for i in range(2):
            write_recording(raw / "x" / f"{subject}{i}", seed=10 * ord(subject) + i)
            write_recording(raw / "y" / f"{subject}{i}", seed=10 * ord(subject) + i + 5000)
    rule = ("--split-by", "/([a-z])", "--split", method)

    audited = tool("check", raw, "--json", *rule)
    converted = tool("convert", raw, *rule, "--executor", "inline")

    assert converted.returncode == 0, converted.stderr
    plan = json.loads((tmp_path / "store" / ".eventkit" / "plan.json").read_bytes())
    splits = json.loads(audited.stdout)["splits"]
    assert splits == plan["splits"]
    assert all(count % 4 == 0 for count in splits.values())
    assert len(splits) == (3 if method == "stratified" else 2)
