"""What a raw folder is understood to be."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from pipelines_helpers import write_recording

from eventkit.errors import MissingDataError, SettingsError
from pipelines.datasets.discover import discover


def ids(found) -> list[str]:
    return [recording.id for recording in found.recordings]


def test_class_folders_give_labels_in_natural_order(tmp_path: Path) -> None:
    for name in ("10", "2", "1"):
        write_recording(tmp_path / name / "a", seed=1)

    found = discover([tmp_path])

    assert found.classes == {0: "1", 1: "2", 2: "10"}
    assert [(r.id, r.label) for r in found.recordings] == [("1/a", 0), ("10/a", 2), ("2/a", 1)]


def test_split_folders_above_the_classes_are_official_and_val_is_carved_from_train(raw) -> None:
    found = discover([raw])

    assert len(found.recordings) == 24
    by_split = {s: [r for r in found.recordings if r.split == s] for s in ("train", "val", "test")}
    assert all(r.id.startswith("test/") for r in by_split["test"])
    assert all(r.id.startswith("train/") for r in by_split["train"] + by_split["val"])
    assert len(by_split["test"]) == 6


def test_a_split_does_not_move_when_recordings_are_added(tmp_path: Path) -> None:
    for i in range(40):
        write_recording(tmp_path / "a" / f"{i}", seed=i, events=3, picture=False)
        write_recording(tmp_path / "b" / f"{i}", seed=i, events=3, picture=False)
    before = {r.id: r.split for r in discover([tmp_path]).recordings}
    for i in range(40, 50):
        write_recording(tmp_path / "a" / f"{i}", seed=i, events=3, picture=False)

    after = {r.id: r.split for r in discover([tmp_path]).recordings}

    assert {name: after[name] for name in before} == before
    assert set(before.values()) == {"train", "val", "test"}


def test_three_column_lists_win_over_folders_and_name_missing_clips(tmp_path: Path) -> None:
    write_recording(tmp_path / "action_001_walk" / "dvSave-2022_09_29", seed=1)
    write_recording(tmp_path / "action_002_run" / "dvSave-2022_09_30", seed=2)
    write_recording(tmp_path / "action_002_run" / "unlisted", seed=3)
    (tmp_path / "train_label.txt").write_text(
        "action_001_walk/dvSave-2022_09_29 8 14\naction_002_run/gone 8 66\n"
    )
    (tmp_path / "test_label.txt").write_text("action_002_run/dvSave-2022_09_30 12 66\n")

    found = discover([tmp_path])

    assert {r.id: (r.label, r.split) for r in found.recordings} == {
        "action_001_walk/dvSave-2022_09_29": (14, "train"),
        "action_002_run/dvSave-2022_09_30": (66, "test"),
    }
    assert found.classes == {14: "action_001_walk", 66: "action_002_run"}
    assert found.missing == (("action_002_run/gone", "train_label.txt:2"),)
    assert [pair.id for pair in found.unlisted] == ["action_002_run/unlisted"]


def test_two_classes_of_one_folder_name_are_named_by_id(tmp_path: Path) -> None:
    write_recording(tmp_path / "deck1" / "Whale" / "a", seed=1)
    write_recording(tmp_path / "deck2" / "Whale" / "a", seed=2)
    (tmp_path / "train_label.txt").write_text("deck1/Whale/a 8 65\ndeck2/Whale/a 8 112\n")

    assert discover([tmp_path]).classes == {65: "65", 112: "112"}


def test_list_entries_may_leave_out_the_folder_they_were_unpacked_into(tmp_path: Path) -> None:
    write_recording(tmp_path / "Poker_Event" / "action_1" / "rec", seed=1)
    (tmp_path / "train_label.txt").write_text("action_1/rec 8 0\n")

    assert ids(discover([tmp_path])) == ["Poker_Event/action_1/rec"]


def test_a_list_entry_cannot_leave_the_folder(tmp_path: Path) -> None:
    write_recording(tmp_path / "outside" / "secret", seed=1)
    write_recording(tmp_path / "raw" / "a" / "b", seed=1)
    (tmp_path / "raw" / "train_label.txt").write_text("../outside/secret 8 0\na/b 8 1\n")

    found = discover([tmp_path / "raw"])

    assert ids(found) == ["a/b"]
    assert found.missing[0][0] == "../outside/secret"


@pytest.mark.parametrize("line", ["only-one-column", "a/b 8", "a/b 8 cat", "a/b x 3"])
def test_a_bad_list_line_is_named_with_its_number(tmp_path: Path, line: str) -> None:
    write_recording(tmp_path / "a" / "b", seed=1)
    (tmp_path / "train_label.txt").write_text(f"a/b 8 0\n{line}\n")

    with pytest.raises(SettingsError, match=r"train_label.txt:2: expected"):
        discover([tmp_path])


def test_a_recording_listed_twice_is_refused(tmp_path: Path) -> None:
    write_recording(tmp_path / "a" / "b", seed=1)
    (tmp_path / "train_label.txt").write_text("a/b 8 0\n")
    (tmp_path / "test_label.txt").write_text("a/b 8 0\n")

    with pytest.raises(SettingsError, match="more than once"):
        discover([tmp_path])


def test_lists_without_any_recording_say_so(tmp_path: Path) -> None:
    write_recording(tmp_path / "a" / "b", seed=1)
    (tmp_path / "train_label.txt").write_text("x/y 8 0\n")

    with pytest.raises(SettingsError, match="x/y"):
        discover([tmp_path])


def test_recordings_side_by_side_have_no_label(tmp_path: Path) -> None:
    for i in range(3):
        write_recording(tmp_path / f"{i}", seed=i)

    found = discover([tmp_path])

    assert found.classes == {}
    assert {r.label for r in found.recordings} == {-1}


def test_a_single_file_works_and_finds_its_picture(tmp_path: Path) -> None:
    write_recording(tmp_path / "0001", seed=1)
    write_recording(tmp_path / "0002", seed=1)

    found = discover([tmp_path / "0001.bin"])

    assert [(r.id, r.rgb) for r in found.recordings] == [("0001", "0001.png")]


def test_a_named_file_has_nothing_to_do_with_an_event_file_of_the_same_stem(
    tmp_path: Path,
) -> None:
    write_recording(tmp_path / "a", seed=1)
    plain = (tmp_path / "a.bin").read_bytes()
    (tmp_path / "a.bin.gz").write_bytes(gzip.compress(plain))
    (tmp_path / "a.dat").write_bytes(b"an export beside it")

    for name in ("a.bin", "a.bin.gz", "a.dat"):
        (found,) = discover([tmp_path / name]).recordings
        assert (found.id, found.events, found.rgb) == ("a", name, "a.png")
    with pytest.raises(SettingsError, match=r"'a': a\.bin and a\.dat"):
        discover([tmp_path / "a.bin", tmp_path / "a.dat"])


@pytest.mark.parametrize(("count", "more"), [(1, ""), (5, ""), (7, "; and 2 names more")])
def test_all_recordings_of_one_name_are_said_at_once(tmp_path: Path, count: int, more: str) -> None:
    write_recording(tmp_path / "alone", seed=1)
    for i in range(count):
        write_recording(tmp_path / f"{i}", seed=1)
        (tmp_path / f"{i}.dat").write_bytes(b"an export beside it")

    with pytest.raises(SettingsError) as caught:
        discover([tmp_path])

    said = str(caught.value)
    assert said.count(".bin and ") == min(count, 5)
    assert f"'0': 0.bin and 0.dat{'; ' if count > 1 else ''}" in said
    assert f"{more}; rename or move away one of each" in said


def test_one_folder_is_no_class_tree_unless_asked(tmp_path: Path) -> None:
    write_recording(tmp_path / "session1" / "a", seed=1)

    with pytest.raises(SettingsError, match="--layout tree"):
        discover([tmp_path])

    assert discover([tmp_path], layout="tree").classes == {0: "session1"}
    assert discover([tmp_path], layout="flat").recordings[0].label == -1


def test_mixed_depths_are_refused_with_candidates(tmp_path: Path) -> None:
    write_recording(tmp_path / "a" / "r1", seed=1)
    write_recording(tmp_path / "b" / "day" / "r2", seed=1)

    with pytest.raises(SettingsError, match="a/r1") as error:
        discover([tmp_path])
    assert "b/day/r2" in str(error.value)


def test_the_rgb_side_may_be_a_video_or_a_folder(tmp_path: Path) -> None:
    write_recording(tmp_path / "x" / "one", seed=1, picture=False)
    (tmp_path / "x" / "one.mp4").write_bytes(b"")
    write_recording(tmp_path / "y" / "two", seed=1, picture=False)
    write_recording(tmp_path / "y" / "two_aps" / "00000000", seed=2)
    (tmp_path / "y" / "two_aps" / "00000000.bin").unlink()

    found = {r.id: r.rgb for r in discover([tmp_path]).recordings}

    assert found == {"x/one": "x/one.mp4", "y/two": "y/two_aps"}


def test_two_rgb_candidates_are_refused(tmp_path: Path) -> None:
    write_recording(tmp_path / "a" / "one", seed=1)
    (tmp_path / "a" / "one.mp4").write_bytes(b"")

    with pytest.raises(SettingsError, match=r"one.png, a/one.mp4"):
        discover([tmp_path])


def test_a_picture_without_events_is_a_recording_of_its_own(tmp_path: Path) -> None:
    write_recording(tmp_path / "a" / "one", seed=1)
    write_recording(tmp_path / "b" / "two", seed=2)
    write_recording(tmp_path / "b" / "three", seed=3)
    (tmp_path / "b" / "two.bin").unlink()

    found = {r.id: (r.events, r.rgb) for r in discover([tmp_path]).recordings}

    assert found["b/two"] == (None, "b/two.png")


def test_files_that_no_reader_knows_are_counted(tmp_path: Path) -> None:
    write_recording(tmp_path / "one", seed=1)
    (tmp_path / "two.rosbag2").write_bytes(b"?")

    assert discover([tmp_path]).unknown == {".rosbag2": 1}


def test_an_empty_folder_and_a_wrong_path_say_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="found none"):
        discover([tmp_path])
    with pytest.raises(MissingDataError, match="no such file"):
        discover([tmp_path / "nowhere"])


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    write_recording(tmp_path / "a" / "one", seed=1)
    write_recording(tmp_path / "b" / "one", seed=1)
    (tmp_path / "a" / "loop").symlink_to(tmp_path)

    assert ids(discover([tmp_path])) == ["a/one", "b/one"]


def test_several_files_of_one_folder_are_all_taken(tmp_path: Path) -> None:
    for name in ("1", "2", "3"):
        write_recording(tmp_path / name, seed=1)

    found = discover([tmp_path / "1.bin", tmp_path / "3.bin"])

    assert [(r.id, r.rgb) for r in found.recordings] == [("1", "1.png"), ("3", "3.png")]
    assert ids(discover([tmp_path / "1.bin", tmp_path])) == ["1", "2", "3"]


def test_a_single_file_finds_its_folder_of_images(tmp_path: Path) -> None:
    write_recording(tmp_path / "x", seed=1, picture=False)
    write_recording(tmp_path / "x_aps" / "00000000", seed=2)
    (tmp_path / "x_aps" / "00000000.bin").unlink()

    assert [(r.id, r.rgb) for r in discover([tmp_path / "x.bin"]).recordings] == [("x", "x_aps")]


def test_linked_folders_are_followed(tmp_path: Path) -> None:
    write_recording(tmp_path / "disk" / "a" / "1", seed=1)
    write_recording(tmp_path / "disk" / "b" / "2", seed=1)
    (tmp_path / "raw").mkdir()
    for name in ("a", "b"):
        (tmp_path / "raw" / name).symlink_to(tmp_path / "disk" / name)

    assert ids(discover([tmp_path / "raw"])) == ["a/1", "b/2"]


@pytest.mark.parametrize("line", ["a/b 1 \u00b2", "a/b 1 99999999999999999999"])
def test_a_label_that_is_no_small_number_is_refused(tmp_path: Path, line: str) -> None:
    write_recording(tmp_path / "a" / "b", seed=1)
    (tmp_path / "train_label.txt").write_text(line)

    with pytest.raises(SettingsError, match=r"train_label.txt:1: expected"):
        discover([tmp_path])


def test_class_names_of_other_digits_sort_as_text(tmp_path: Path) -> None:
    for name in ("\u00b2", "\u00b3"):
        write_recording(tmp_path / name / "a", seed=1)

    assert discover([tmp_path]).classes == {0: "\u00b2", 1: "\u00b3"}


def test_list_entries_may_have_a_suffix_and_leave_out_a_folder(tmp_path: Path) -> None:
    write_recording(tmp_path / "data" / "a" / "b", seed=1)
    (tmp_path / "train_label.txt").write_text("a/b.bin 8 0\n")

    assert ids(discover([tmp_path])) == ["data/a/b"]


def test_one_recording_listed_under_two_spellings_is_refused(tmp_path: Path) -> None:
    write_recording(tmp_path / "a" / "b", seed=1)
    (tmp_path / "train_label.txt").write_text("a/b 8 0\na/b.bin 8 0\n")

    with pytest.raises(SettingsError, match="more than once"):
        discover([tmp_path])


def test_a_list_beside_a_single_file_asks_for_no_other(tmp_path: Path) -> None:
    write_recording(tmp_path / "r1", seed=1)
    (tmp_path / "train_label.txt").write_text("r1 8 3\nr2 8 4\n")

    found = discover([tmp_path / "r1.bin"])

    assert found.missing == ()
    assert [r.label for r in found.recordings] == [3]


def test_compressed_recordings_are_found_under_the_name_inside(tmp_path: Path) -> None:
    write_recording(tmp_path / "a", seed=1)
    plain = tmp_path / "a.bin"
    (tmp_path / "a.bin.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()

    (found,) = discover([tmp_path]).recordings

    assert (found.id, found.events, found.rgb) == ("a", "a.bin.gz", "a.png")


def test_a_ros2_bag_folder_is_one_recording(tmp_path: Path) -> None:
    for name in ("drive_0.db3", "drive_1.db3", "metadata.yaml"):
        (tmp_path / "drive").mkdir(exist_ok=True)
        (tmp_path / "drive" / name).write_bytes(b"")

    found = discover([tmp_path]).recordings
    alone = discover([tmp_path / "drive"]).recordings

    assert [(r.id, r.events) for r in found] == [("drive", "drive")]
    assert [(r.id, r.events) for r in alone] == [("drive", ".")]


def test_tables_are_recordings_only_where_they_hold_events(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("0.001 3 4 1\n0.002 5 6 0\n0.003 5 7 1\n")
    (tmp_path / "notes.txt").write_text("the camera fell over\n")
    np.save(tmp_path / "labels.npy", np.arange(5))

    found = discover([tmp_path])

    assert [(r.id, r.events) for r in found.recordings] == [("a", "a.txt")]
    assert found.unknown == {".npy": 1}
