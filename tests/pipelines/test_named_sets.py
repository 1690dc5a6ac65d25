"""Published data sets by name, each as its authors lay it out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from named_miniatures import (
    DAILY,
    EVENTS,
    TAKES,
    asldvs,
    columns,
    dailydvs200,
    hardvs,
    ncaltech101,
    nimagenet,
    nmnist,
    pokerevent,
    write_npz,
)
from pipelines_helpers import write_recording

from eventkit.errors import MissingDataError, SettingsError
from pipelines.convert import describe
from pipelines.datasets.discover import Discovery, discover
from pipelines.datasets.faults import SetFault
from pipelines.datasets.named import named_sets
from pipelines.opening import ReadSettings, for_set, open_spec


def by_id(found: Discovery) -> dict[str, tuple[int, str]]:
    return {spec.id: (spec.label, spec.split) for spec in found.recordings}


def said(found: Discovery) -> str:
    lines: list[str] = []
    describe(found, lines.append)
    return "\n".join(lines)


def events_of(found: Discovery, place: int = 0):
    spec = found.recordings[place]
    return open_spec(found.root, spec, for_set(ReadSettings(), found))


def test_every_declaration_says_where_the_set_is_from_and_knows_its_own_example() -> None:
    assert len(named_sets()) == 8
    for name, named in named_sets().items():
        assert named.events.fullmatch(named.example), name
        assert named.homepage.startswith("https://")
        assert named.citation
        assert named.licence
        assert named.download
        taken = [other for other in named_sets().values() if other.events.fullmatch(named.example)]
        assert taken == [named]


def test_pokerevent_keeps_two_classes_of_one_animal_apart(tmp_path: Path) -> None:
    found = discover([pokerevent(tmp_path / "raw")])

    assert by_id(found) == {
        f"action_ex_001_Whale/{TAKES[0]}": (65, "train"),
        f"action_ex_001_Whale/{TAKES[1]}": (65, "test"),
        f"action_ex_002_Whale/{TAKES[0]}": (112, "train"),
        f"action_ex_002_Whale/{TAKES[1]}": (112, "test"),
        f"action_Poker001/{TAKES[0]}": (0, "train"),
        f"action_Poker001/{TAKES[1]}": (0, "test"),
        f"action_Poker001/{TAKES[2]}": (0, "train"),
    }
    assert found.classes == {
        0: "action_Poker001", 65: "action_ex_001_Whale", 112: "action_ex_002_Whale"
    }  # fmt: skip


def test_pokerevent_takes_pictures_from_aedat4_and_folders_only_without_it(tmp_path: Path) -> None:
    root = pokerevent(tmp_path / "raw")
    first = root / "Poker_rgb_event" / "action_Poker001" / TAKES[2]
    again = root / "Poker_rgb_event" / "action_Poker001" / TAKES[0] / f"{TAKES[0]}_aps"
    again.parent.mkdir()
    (first / f"{TAKES[2]}_aps").rename(again)

    found = discover([root])

    sides = {spec.id: spec.rgb for spec in found.recordings}
    assert sides[f"action_Poker001/{TAKES[0]}"] is None
    assert events_of(found).frames.timing == "recorded"
    assert found.missing == ((f"action_Poker001/{TAKES[2]}", "train_label.txt:4"),)


def test_what_was_understood_is_said_before_anything_starts(tmp_path: Path) -> None:
    text = said(discover([pokerevent(tmp_path / "raw")]))

    assert "7 recordings (PokerEvent: lists train_label.txt, test_label.txt)" in text
    assert "taken for PokerEvent by the names of its files; --layout list, tree or flat" in text
    assert "left out: 1 folders with pictures of events, which are no events" in text


def test_hardvs_joins_npz_with_either_layout_of_pictures(tmp_path: Path) -> None:
    for layout in ("flat", "deep"):
        found = discover([hardvs(tmp_path / layout, rawframes=layout)])

        spec = found.recordings[0]
        assert spec.events == f"MINI_HARDVS_files/action_001/{TAKES[0]}.npz"
        assert spec.rgb is not None
        assert spec.rgb.endswith(f"{TAKES[0]}_aps")
        assert len(found.recordings) == 9
        recording = events_of(found)
        assert recording.sensor_size == (346, 260)
        assert len(recording.frames) == 3


@pytest.mark.parametrize("first", [0, 1])
def test_hardvs_labels_start_at_zero_whatever_the_lists_do(tmp_path: Path, first: int) -> None:
    found = discover([hardvs(tmp_path / "raw", first=first)])

    assert {label for label, _ in by_id(found).values()} == {0, 1, 299}
    assert found.classes == {0: "walking", 1: "sitting down", 299: "waving"}
    assert ("labels of the lists count from 1" in said(found)) == bool(first)


def test_hardvs_names_the_recordings_that_were_never_published(tmp_path: Path) -> None:
    found = discover([hardvs(tmp_path / "raw")])

    assert found.missing == (
        ("action_002/dvSave-2021_07_30_10_44_40", "train_label.txt:4"),
    )  # fmt: skip


def test_hardvs_without_lists_or_events_still_has_its_labels(tmp_path: Path) -> None:
    root = hardvs(tmp_path / "raw", rawframes="flat")
    for name in root.glob("*_label.txt"):
        name.unlink()
    for npz in root.rglob("*.npz"):
        npz.unlink()

    found = discover([root])

    assert [spec.label for spec in found.recordings] == [0, 0, 0, 1, 1, 1, 299, 299, 299]
    assert all(spec.events is None for spec in found.recordings)
    assert "80/10/10" in found.split_rule


def test_a_line_with_another_label_than_its_folder_counts_and_is_told(tmp_path: Path) -> None:
    root = hardvs(tmp_path / "raw")
    listed = (root / "train_label.txt").read_text().replace("15 299", "15 7")
    (root / "train_label.txt").write_text(listed)

    found = discover([root])

    assert by_id(found)[f"action_300/{TAKES[0]}"] == (7, "train")
    assert "1 lines have another label than the name says" in said(found)


def test_nmnist_has_its_splits_and_digits(tmp_path: Path) -> None:
    found = discover([nmnist(tmp_path / "raw")])

    assert by_id(found)["Test/7/00057"] == (7, "test")
    assert found.classes[7] == "7"
    assert events_of(found).sensor_size == (34, 34)
    half = discover([tmp_path / "raw" / "Test"])
    assert [spec.id for spec in half.recordings] == [
        "Test/1/00051", "Test/1/00052", "Test/7/00057", "Test/7/00058",
    ]  # fmt: skip


def test_ncaltech101_leaves_its_outlines_out(tmp_path: Path) -> None:
    found = discover([ncaltech101(tmp_path / "raw")])

    assert found.classes == {0: "BACKGROUND_Google", 1: "Faces_easy", 2: "airplanes"}
    assert len(found.recordings) == 6
    assert "left out: 1 files with outlines of objects" in said(found)


def test_asl_dvs_is_turned_the_right_way_up(tmp_path: Path) -> None:
    found = discover([asldvs(tmp_path / "raw")])

    made = columns(ord("a") + 1, size=(240, 180))
    events = events_of(found).events
    assert np.array_equal(events.y, 179 - made["y"].astype(int))
    assert np.array_equal(events.x, made["x"])
    assert {spec.label for spec in found.recordings} == {0, 9, 23}
    assert len(found.classes) == 24


def test_dailydvs200_counts_actions_from_zero_and_folders_from_one(tmp_path: Path) -> None:
    found = discover([dailydvs200(tmp_path / "raw", lists=True)])

    assert {spec.id: spec.label for spec in found.recordings} == DAILY
    assert by_id(found)["C0P3M0S1_20231111_09_11_23"] == (0, "val")
    assert "another label" not in said(found)
    assert events_of(found).sensor_size == (320, 240)


def test_dailydvs200_without_lists_is_split_by_the_published_subjects(tmp_path: Path) -> None:
    found = discover([dailydvs200(tmp_path / "raw", lists=False)])

    assert {name.split("M")[0]: split for name, (_, split) in by_id(found).items()} == {
        "C0P3": "val",
        "C49P2": "train",
        "C49P45": "test",
        "C199P4": "test",
    }
    assert "the published subjects" in found.split_rule


def test_nimagenet_lists_of_another_machine_are_understood(tmp_path: Path) -> None:
    found = discover([nimagenet(tmp_path / "raw")])

    assert {(spec.id, spec.label) for spec in found.recordings} == {
        ("n01440764/n01440764_10026", 0),
        ("n15075141/n15075141_999", 1),
        ("n01440764/ILSVRC2012_val_00000293", 0),
    }
    assert by_id(found)["n01440764/ILSVRC2012_val_00000293"] == (0, "test")
    recording = events_of(found)
    assert recording.sensor_size == (640, 480)
    assert len(recording.events) == EVENTS


def test_other_files_among_them_make_it_any_folder(tmp_path: Path) -> None:
    root = nmnist(tmp_path / "raw")
    write_recording(root / "Extra" / "0" / "mine", seed=1, picture=False)

    found = discover([root], layout="auto", refuse=lambda _: None)

    assert found.named is None


def test_a_set_can_be_named_and_the_rest_is_told(tmp_path: Path) -> None:
    root = nmnist(tmp_path / "raw")
    write_recording(root / "Extra" / "0" / "mine", seed=1, picture=False)

    found = discover([root], dataset="nmnist")

    assert len(found.recordings) == 8
    assert "left out: 1 recording that N-MNIST does not name" in said(found)
    assert "taken for" not in said(found)


def test_a_layout_switches_the_recognition_off(tmp_path: Path) -> None:
    found = discover([nmnist(tmp_path / "raw")], layout="tree")

    assert found.named is None
    assert found.classes == {0: "1", 1: "7"}


def test_a_wrong_name_and_a_wrong_folder_are_refused_with_a_cure(tmp_path: Path) -> None:
    write_npz(tmp_path / "raw" / "a" / "b.npz", 1)

    with pytest.raises(SettingsError, match=r"expected --dataset among asldvs, .* or tonic:NAME"):
        discover([tmp_path / "raw"], dataset="mnist")
    with pytest.raises(MissingDataError, match=r"expected HARDVS, files like .*none, but a/b and"):
        discover([tmp_path / "raw"], dataset="hardvs")
    with pytest.raises(SettingsError, match="leave one out"):
        discover([tmp_path / "raw"], dataset="hardvs", layout="tree")


def test_one_recording_unpacked_twice_is_refused(tmp_path: Path) -> None:
    root = hardvs(tmp_path / "raw")
    write_npz(root / "again" / "action_001" / f"{TAKES[0]}.npz", 1)

    with pytest.raises(SettingsError, match=rf"two recordings have one name, .*{TAKES[0]}"):
        discover([root])


@pytest.mark.parametrize("line", ["../../etc/passwd 8 1", "action_001/x 8 1", "action_001/"])
def test_a_strange_line_of_a_list_is_named_and_opens_nothing(tmp_path: Path, line: str) -> None:
    root = hardvs(tmp_path / "raw")
    with (root / "test_label.txt").open("a") as file:
        file.write(line)
    faults: list[SetFault] = []

    found = discover([root], refuse=faults.append)

    assert [(fault.reason, fault.where) for fault in faults] == [("bad_line", "test_label.txt:4")]
    assert len(found.recordings) == 9
