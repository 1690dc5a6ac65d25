"""convert --reuse: unchanged recordings come from another store, to the bytes of a fresh one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from convert_helpers import INLINE
from PIL import Image
from pipelines_helpers import tree_bytes, write_recording

from eventkit.clip_settings import ClipSettings
from eventkit.errors import MissingDataError, SettingsError
from pipelines import pack_task, plan, reuse, scan
from pipelines.convert import convert_raw
from pipelines.datasets.splits import SplitRule
from pipelines.opening import ReadSettings
from pipelines.receipts import sealed

Converter = Callable[..., list[str]]


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """Seven recordings of two classes, packs of at most three clips."""
    root = tmp_path / "raw"
    for label in range(2):
        for i in range(3):
            write_recording(root / f"c{label}" / f"{i:04d}", seed=10 * label + i)
    write_recording(root / "c1" / "blind", seed=20, picture=False)
    return root


@pytest.fixture
def to_store(few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Converter:
    """Convert to a store of a name; returns what was said."""
    monkeypatch.setattr(plan, "PACK_CLIPS", 3)

    def run(name: str, *, from_store: str | None = None, **clip: object) -> list[str]:
        said: list[str] = []
        convert_raw(
            [few],
            tmp_path / name,
            clip=ClipSettings(**{"bins": 4, **clip}),
            read=ReadSettings(sensor_size=(34, 34)),
            layout="auto",
            rule=SplitRule(),
            run=INLINE,
            say=said.append,
            reuse=None if from_store is None else tmp_path / from_store,
        )
        return [line for line in said if "reuse" in line or "pack of" in line or "packs of" in line]

    return run


def decoded(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Count from here on which recordings are scanned and which are decoded for a pack."""
    seen: dict[str, list[str]] = {"scan": [], "convert": []}
    whole_scan, whole_clips = scan.scan_recording, pack_task.recording_clips

    def scanning(job: scan.ScanJob) -> dict:
        seen["scan"].append(job.spec.id)
        return whole_scan(job)

    def converting(job, spec, found):
        seen["convert"].append(spec.id)
        return whole_clips(job, spec, found)

    monkeypatch.setattr(scan, "scan_recording", scanning)
    monkeypatch.setattr(pack_task, "recording_clips", converting)
    return seen


@pytest.mark.parametrize(
    "clip",
    [
        {},
        {"diffs": False, "raw_events": True, "clip_us": 90_000},
        {"representation": "voxel:zhu", "bins": 1},
    ],
    ids=["defaults", "cut, with events", "voxels of one bin"],
)
def test_a_set_that_grew_is_taken_over_to_the_bytes_of_a_fresh_one(
    few: Path, tmp_path: Path, to_store: Converter, clip: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(few / "c0" / "0001.png")  # another shape, a pack of its own
    to_store("old", **clip)
    write_recording(few / "c0" / "0000a", seed=50)  # moves the borders of every pack
    write_recording(few / "c1" / "0001", seed=51)  # changed
    (few / "c1" / "0002.bin").unlink()
    (few / "c1" / "0002.png").unlink()
    to_store("fresh", **clip)
    seen = decoded(monkeypatch)

    said = to_store("new", from_store="old", **clip)

    assert said == [
        f"  reuse: 5 of 7 recordings are taken over from {tmp_path / 'old'}, 2 are converted"
    ]
    assert sorted(seen["convert"]) == sorted(seen["scan"]) == ["c0/0000a", "c1/0001"]
    assert tree_bytes(tmp_path / "new", hidden=True) == tree_bytes(tmp_path / "fresh", hidden=True)


def test_packs_that_are_the_same_are_linked_and_belong_to_the_new_plan(
    few: Path, tmp_path: Path, to_store: Converter, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_store("old")
    write_recording(few / "c1" / "9999", seed=50)  # behind all others
    to_store("fresh")
    monkeypatch.setattr(pack_task, "_write_pack", None)  # but for the last pack, nothing is written
    with pytest.raises(TypeError):
        to_store("new", from_store="old")
    monkeypatch.undo()
    monkeypatch.setattr(plan, "PACK_CLIPS", 3)

    to_store("new", from_store="old")

    chunk = "pack-00000.zarr/events/c/0/0/0/0/0"
    assert (tmp_path / "new" / chunk).samefile(tmp_path / "old" / chunk)
    assert tree_bytes(tmp_path / "new", hidden=True) == tree_bytes(tmp_path / "fresh", hidden=True)


def test_labels_and_splits_may_differ(few: Path, tmp_path: Path, to_store: Converter) -> None:
    to_store("old")
    lines = [
        f"{p.parent.name}/{p.stem} 1 {i % 2}" for i, p in enumerate(sorted(few.glob("*/*.bin")))
    ]
    (few / "test_label.txt").write_text("\n".join(lines))
    to_store("fresh")

    said = to_store("new", from_store="old")

    assert "7 of 7" in said[0]
    assert tree_bytes(tmp_path / "new", hidden=True) == tree_bytes(tmp_path / "fresh", hidden=True)


@pytest.mark.parametrize("grown", [False, True], ids=["packs", "recordings"])
def test_damage_in_the_other_store_costs_time_and_no_bytes(
    few: Path, tmp_path: Path, to_store: Converter, caplog: pytest.LogCaptureFixture, grown: bool
) -> None:
    to_store("old")
    if grown:
        write_recording(few / "c0" / "0000a", seed=50)
    to_store("fresh")
    for name, array in (("pack-00000", "events"), ("pack-00001", "diff_rgb")):
        chunk = next(f for f in (tmp_path / f"old/{name}.zarr/{array}/c").rglob("*") if f.is_file())
        data = bytearray(chunk.read_bytes())
        data[len(data) // 3] ^= 8
        chunk.write_bytes(data)

    to_store("new", from_store="old")

    assert tree_bytes(tmp_path / "new") == tree_bytes(tmp_path / "fresh")
    assert caplog.text.count("its recordings are converted") >= 2


def test_what_of_the_other_store_is_no_use_is_told(
    few: Path, tmp_path: Path, to_store: Converter, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_store("old")
    (tmp_path / "old/.eventkit/receipts/pack-00000.json").unlink()

    half = to_store("half", from_store="old")
    monkeypatch.setattr(reuse, "code_versions", lambda: {"numpy": "0"})
    none = to_store("none", from_store="old")

    assert "4 of 7 recordings are taken over" in half[0]
    assert half[1] == f"    1 pack of {tmp_path / 'old'}: not finished"
    assert "0 of 7 recordings are taken over" in none[0]
    assert "2 packs of" in none[2]
    assert "other versions of the libraries" in none[2]
    assert tree_bytes(tmp_path / "half") == tree_bytes(tmp_path / "old")


def test_what_cannot_be_taken_from_is_refused(
    few: Path, tmp_path: Path, to_store: Converter
) -> None:
    to_store("old")

    with pytest.raises(SettingsError, match=r"bins 4 there, 5 now\. Nothing of it would"):
        to_store("new", from_store="old", bins=5)
    with pytest.raises(SettingsError, match="another store than --out"):
        to_store("old", from_store="old")
    with pytest.raises(MissingDataError, match="expected a store of `eventkit convert`"):
        to_store("new", from_store="nowhere")
    path = tmp_path / "old/.eventkit/plan.json"
    content = json.loads(path.read_text())
    path.write_bytes(sealed({k: v for k, v in content.items() if k != "digest"} | {"version": 9}))
    with pytest.raises(ValueError, match="got version 9"):
        to_store("new", from_store="old")
    assert not (tmp_path / "new").exists()
