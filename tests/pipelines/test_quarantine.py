"""What is set aside, why, and what becomes of it when it is looked at again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from convert_helpers import convert, shard
from pipelines_helpers import tree_bytes, write_recording

from eventkit.errors import DamageError, SettingsError
from eventkit.store import open_store
from pipelines.quarantine import TooManyBadError
from pipelines.receipts import read_plan, receipt_path


def listed(raw: Path) -> dict[str, dict[str, Any]]:
    lines = (raw.parent / "store" / ".eventkit" / "quarantine.jsonl").read_text().splitlines()
    return {entry["recording"]: entry for entry in map(json.loads, lines)}


def clips_of(raw: Path) -> list[str]:
    return [clip.facts["recording"] for clip in open_store(raw.parent / "store")]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Six recordings of two classes; one has a folder of pictures."""
    for i in range(6):
        write_recording(tmp_path / "raw" / f"c{i % 2}" / f"{i:04d}", seed=i)
    picture = tmp_path / "raw" / "c1" / "0003.png"
    picture.with_suffix("").mkdir()
    for i in range(3):
        shutil.copy(picture, picture.with_suffix("") / f"{i}.png")
    picture.unlink()
    return tmp_path / "raw"


def damage(raw: Path) -> dict[Path, bytes]:
    """Cut one recording and break the picture of another; returns what was there."""
    cut, picture = raw / "c0" / "0002.bin", raw / "c1" / "0003" / "2.png"
    whole = {path: path.read_bytes() for path in (cut, picture)}
    cut.write_bytes(whole[cut][:-2])
    picture.write_bytes(whole[picture][:60])  # only the first is decoded by the scan
    return whole


def test_an_entry_has_code_place_attempts_and_the_inputs(raw: Path) -> None:
    damage(raw)

    convert(raw)

    entries = listed(raw)
    assert {name: entry["stage"] for name, entry in entries.items()} == {
        "c0/0002": "scan",
        "c1/0003": "convert",
    }
    cut = entries["c0/0002"]
    assert (cut["reason"], cut["offset"], cut["attempts"]) == ("truncated", 199 * 5, 1)
    assert entries["c1/0003"].keys() == cut.keys()
    for entry, inputs in ((cut, 2), (entries["c1/0003"], 4)):
        assert len(entry["files"]) == inputs
        for file in entry["files"]:
            data = (raw / file["path"]).read_bytes()
            assert file["sha256"] == hashlib.sha256(data).hexdigest()


def test_the_time_of_the_faulty_event_is_told(raw: Path) -> None:
    victim = raw / "c0" / "0000.bin"
    records = victim.read_bytes()
    victim.write_bytes(records + records[50 * 5 : 51 * 5])  # ends with an event of before

    convert(raw)

    entry = listed(raw)["c0/0000"]
    record = records[50 * 5 : 51 * 5]
    assert entry["reason"] == "backwards_time"
    assert entry["offset"] == len(records)
    assert entry["time_us"] == int.from_bytes(record[2:]) & 0x7FFFFF


def test_mended_recordings_are_added_and_finished_packs_stay_as_they_are(raw: Path) -> None:
    whole = damage(raw)
    convert(raw)
    before = tree_bytes(raw.parent / "store")
    assert len(clips_of(raw)) == 4
    for path, data in whole.items():
        path.write_bytes(data)

    outcome = convert(raw, retry=True)

    assert not outcome.quarantine
    assert not outcome.did_nothing
    assert listed(raw) == {}
    after = tree_bytes(raw.parent / "store")
    assert {path: after[path] for path in before} == before
    assert set(clips_of(raw)) == {f"c{i % 2}/{i:04d}" for i in range(6)}
    assert sum(int(clip.events.sum()) for clip in open_store(raw.parent / "store")) == 6 * 200
    assert convert(raw).did_nothing, "the plain command knows the revised plan"


def test_a_retry_looks_at_files_that_seem_to_be_those_of_before(raw: Path) -> None:
    """Name, size and time of change are the same, as with a decoder that was mended."""
    victim = raw / "c0" / "0000.bin"
    whole, then = victim.read_bytes(), victim.stat()
    victim.write_bytes(whole[:500] + whole[:5] + whole[505:])  # times step back
    os.utime(victim, ns=(then.st_atime_ns, then.st_mtime_ns))
    convert(raw)
    assert listed(raw)["c0/0000"]["reason"] == "backwards_time"
    victim.write_bytes(whole)
    os.utime(victim, ns=(then.st_atime_ns, then.st_mtime_ns))
    assert convert(raw).did_nothing

    convert(raw, retry=True)

    assert listed(raw) == {}
    assert "c0/0000" in clips_of(raw)


def test_a_retry_that_was_killed_is_finished_by_the_plain_command(raw: Path) -> None:
    whole = damage(raw)
    convert(raw)
    for path, data in whole.items():
        path.write_bytes(data)
    convert(raw, retry=True)
    store = raw.parent / "store"
    finished = tree_bytes(store)
    added = [pack["name"] for pack in (read_plan(store) or {})["packs"]][-1]
    receipt_path(store, added).unlink()  # as a kill after the plan was revised leaves it
    shutil.rmtree(store / f"{added}.zarr" / "events")

    outcome = convert(raw)

    assert not outcome.did_nothing
    assert tree_bytes(store) == finished


def test_what_is_still_broken_counts_its_attempts_and_changes_nothing_else(raw: Path) -> None:
    damage(raw)
    convert(raw)
    before = tree_bytes(raw.parent / "store")

    convert(raw, retry=True)
    convert(raw, retry=True)

    assert {name: entry["attempts"] for name, entry in listed(raw).items()} == {
        "c0/0002": 3,
        "c1/0003": 3,
    }
    assert tree_bytes(raw.parent / "store") == before
    assert convert(raw).did_nothing


def test_one_of_two_is_mended_and_the_other_later(raw: Path) -> None:
    (cut, events), (picture, pixels) = damage(raw).items()
    convert(raw)
    picture.write_bytes(pixels)
    convert(raw, retry=True)
    assert {name: entry["attempts"] for name, entry in listed(raw).items()} == {"c0/0002": 2}

    cut.write_bytes(events)
    convert(raw, retry=True)

    assert listed(raw) == {}
    assert len(clips_of(raw)) == 6


def test_a_recording_of_a_list_that_is_downloaded_later_is_added(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for i in range(3):
        write_recording(raw / "data" / f"{i:04d}", seed=i)
    (raw / "train.txt").write_text("data/0000 8 0\ndata/0001 8 1\ndata/0003 8 1\n")
    (raw / "test.txt").write_text("data/0002 8 0\n")
    convert(raw)
    assert listed(raw)["data/0003"]["reason"] == "missing"
    write_recording(raw / "data" / "0003", seed=3)

    convert(raw, retry=True)

    assert listed(raw) == {}
    assert "data/0003" in clips_of(raw)


def test_a_plain_run_over_mended_files_says_how_to_add_them(raw: Path) -> None:
    whole = damage(raw)
    convert(raw)
    for path, data in whole.items():
        path.write_bytes(data)

    with pytest.raises(SettingsError, match="add --retry-quarantined"):
        convert(raw)


@pytest.mark.parametrize("change", ["changed", "added", "removed", "settings"])
def test_a_retry_refuses_any_other_change(raw: Path, change: str) -> None:
    damage(raw)
    convert(raw)
    before = tree_bytes(raw.parent / "store", hidden=True)
    if change in ("changed", "added"):
        write_recording(raw / "c0" / ("0000" if change == "changed" else "0008"), seed=77)
    elif change == "removed":
        (raw / "c0" / "0000.bin").unlink()
        (raw / "c0" / "0000.png").unlink()

    inputs = "Only what was set aside may differ"
    words = "bins 4 there, 8 now" if change == "settings" else inputs
    with pytest.raises(SettingsError, match=words):
        convert(raw, retry=True, bins=8 if change == "settings" else 4)

    after = tree_bytes(raw.parent / "store", hidden=True)
    logs = ("/scan.jsonl", "/lock")
    assert {k: v for k, v in after.items() if not k.endswith(logs)} == {
        k: v for k, v in before.items() if not k.endswith(logs)
    }


@pytest.mark.parametrize("victim", ["c0/0002.bin", "c1/0003/2.png"])
def test_too_many_bad_ones_give_no_manifest_until_they_are_mended(raw: Path, victim: str) -> None:
    shards = raw.parent / "shards"
    whole = damage(raw)
    for path, data in whole.items():  # one fault only: of the scan, or of the decoder
        if path != raw / victim:
            path.write_bytes(data)

    with pytest.raises(TooManyBadError, match=r"1 of 6 recordings are bad") as caught:
        convert(raw, max_bad=1)

    assert caught.value.exit_code == 3
    assert len(listed(raw)) == 1
    with pytest.raises(SettingsError, match="--max-bad 1%"):
        shard(raw)
    assert not (shards / "manifest.json").exists()

    (raw / victim).write_bytes(whole[raw / victim])
    convert(raw, max_bad=1, retry=True)
    manifest = shard(raw)
    assert sum(split["samples"] for split in manifest["splits"].values()) == 6
    assert manifest["quarantine"] == []


def test_the_manifest_names_what_was_set_aside_once(raw: Path) -> None:
    damage(raw)
    convert(raw)
    convert(raw, retry=True)

    manifest = shard(raw)

    told = {entry["recording"]: entry for entry in manifest["quarantine"]}
    assert set(told) == {"c0/0002", "c1/0003"}
    assert len(manifest["quarantine"]) == 2
    assert told["c0/0002"]["offset"] == 199 * 5


def test_shards_of_the_store_of_before_are_not_mixed_with_what_was_added(raw: Path) -> None:
    whole = damage(raw)
    convert(raw)
    shard(raw)
    before = tree_bytes(raw.parent / "shards")
    for path, data in whole.items():
        path.write_bytes(data)
    convert(raw, retry=True)

    with pytest.raises(SettingsError, match=r"the clips of the store\. Choose another --out"):
        shard(raw)

    assert tree_bytes(raw.parent / "shards") == before


def test_the_command_line_retries(raw: Path, tool) -> None:
    whole = damage(raw)
    assert tool("convert", raw).returncode == 3
    for path, data in whole.items():
        path.write_bytes(data)

    result = tool("convert", raw, "--retry-quarantined")

    assert result.returncode == 0, result.stderr
    assert "looked again at 2 recordings: 0 set aside" in result.stdout
    assert "6 clips" in result.stdout


@pytest.mark.parametrize("content", [b"[{", None], ids=["damaged", "lost"])
def test_a_retry_without_the_list_of_a_pack_says_how_to_go_on(
    raw: Path, content: bytes | None
) -> None:
    damage(raw)
    convert(raw)
    path = min((raw.parent / "store" / ".eventkit" / "packs").iterdir())
    before = path.read_bytes()
    path.unlink()
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(DamageError, match=r"expected the list of a pack, got .*--retry"):
        convert(raw, retry=True)

    convert(raw)
    assert path.read_bytes() == before
