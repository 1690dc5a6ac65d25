"""A store as a notebook sees it: what it says of itself, and ways to the clips that are wanted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from store_helpers import make_clip, write_store

import eventkit
from eventkit.errors import SettingsError
from eventkit.store import Store

zarr = pytest.importorskip("zarr", reason="zarr is not installed")

KINDS = [("train", 0, "walk"), ("train", 1, "run"), ("val", 0, "walk"), ("test", 1, "run")]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two packs of four clips each, of eight recordings but one, which was cut in two."""
    packs = {"a": [make_clip(i) for i in range(4)], "b": [make_clip(4, encoded=True)] * 4}
    facts = [
        {"recording": f"{split}/{name}/{i // 2 if i < 2 else i}", "split": split, "label": label,
         "label_name": name}
        for i, (split, label, name) in enumerate(KINDS * 2)
    ]  # fmt: skip
    facts[1] |= {"recording": facts[0]["recording"]}
    folder = write_store(tmp_path / "store", packs, facts=facts)
    plan = folder / ".eventkit" / "plan.json"
    plan.write_text(json.dumps({**json.loads(plan.read_text()), "classes": {"0": "walk"}}))
    return eventkit.open_store(folder)


def test_a_store_says_what_it_holds(store: Store) -> None:
    words = repr(store)

    for part in (
        f"8 clips of 7 recordings in {store.path}",
        "2 test, 4 train, 2 val",
        "classes: run, walk",
        "events (3, 2, 5, 7) uint8, pictures (3, 4, 6, 3) uint8, 0 to 30 us",
    ):
        assert part in words
    assert "3 pictures as files" in repr(store[4])
    assert "label 0 'walk', train" in repr(store[0])
    assert repr(store[8:]) == f"<0 clips of 0 recordings in {store.path}; no classes>"
    assert store.classes == {0: "walk"}


def test_clips_are_taken_by_number_slice_and_recording(store: Store) -> None:
    assert [clip.recording for clip in store] == store.recordings
    assert store[-1].recording == store[np.int64(7)].recording == "test/run/7"
    assert [clip.facts["clip"] for clip in store[1:6:2]] == [1, 3, 4]
    assert len(store["train/walk/0"]) == 2
    assert store[2:]["test/run/3"][0].split == "test"
    with pytest.raises(SettingsError, match=r"expected a recording among .*test/run/3.*nobody"):
        _ = store["nobody"]
    with pytest.raises(IndexError, match="clip 2 of 2"):
        _ = store[:2][2]


def test_clips_are_chosen_by_split_and_class(store: Store) -> None:
    walk = store.select(split="train", label="walk")

    assert walk.labels.tolist() == [0, 0]
    assert walk.splits == ["train", "train"]
    of_one = [
        name for name, label in zip(store.recordings, store.labels, strict=True) if label == 1
    ]
    assert store.select(label=1).recordings == of_one
    assert len(store.select(split="val").select(label=0)) == 2
    with pytest.raises(SettingsError, match="expected a split among test, train, val, got 'vall'"):
        store.select(split="vall")
    with pytest.raises(SettingsError, match="expected a label among 0, got 1"):
        store.select(split="val", label=1)


def test_nothing_of_a_clip_is_read_before_it_is_asked_for(store: Store) -> None:
    gone = ("events", "rgb", "rgb_bytes", "diff_rgb")
    for file in [f for f in store.path.glob("*.zarr/*/c/**/0") if f.is_file()]:
        if file.relative_to(store.path).parts[1] in gone:
            file.unlink()

    clips = list(store)

    assert clips[0].window_us.tolist() == [[0, 10], [10, 20], [20, 30]]
    assert clips[0].exposure_us.tolist() == [[0, 5], [10, 15], [20, 25]]
    assert [clips[1].label, clips[1].label_name, clips[1].span_us] == [1, "run", (0, 30)]
    assert [clips[0].has_events, clips[0].has_rgb] == [True, True]
    assert clips[0].diff_events.shape == (2, 2, 5, 7)  # its file is there


def test_pictures_are_pixels_or_those_of_pil_however_they_are_kept(store: Store) -> None:
    for clip, made in ((store[0], make_clip(0)), (store[4], make_clip(4, encoded=True))):
        truth = made.rgb.copy()
        truth[2] = truth[0] if made.encoded else truth[2]  # the last file is the first

        assert np.array_equal(clip.pixels, truth)
        assert all(isinstance(picture, Image.Image) for picture in clip.pictures)
        assert np.array_equal(np.stack([np.asarray(p) for p in clip.pictures]), truth)


def test_arrays_that_were_read_stay_with_the_clip_and_go_with_it(store: Store) -> None:
    clip = store[0]

    assert clip.events is clip.events
    assert store[0].events is not clip.events
