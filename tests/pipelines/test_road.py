"""convert, shard and verify through the command line: bytes, balance, damage, refusal."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from pipelines_helpers import atis_bytes, tree_bytes, write_recording

from eventkit.ledger import Ledger
from pipelines.scan_notes import scan_notes


def manifest_of(shards: Path) -> dict:
    return json.loads((shards / "manifest.json").read_text())


def samples_of(shards: Path, split: str) -> list[dict]:
    import tarfile

    found = []
    for path in sorted((shards / split).glob("*.tar")):
        with tarfile.open(path) as tar:
            members = {m.name: tar.extractfile(m).read() for m in tar}
        keys = sorted({name.split(".")[0] for name in members})
        found += [
            {n.split(".", 1)[1]: d for n, d in members.items() if n.startswith(f"{k}.")}
            for k in keys
        ]
    return found


def test_the_defaults_chain_and_every_event_is_accounted_for(
    raw: Path, tool, tmp_path: Path
) -> None:
    converted = tool("convert", raw)
    sharded = tool("shard")
    verified = tool("verify")

    assert converted.returncode == sharded.returncode == verified.returncode == 0
    assert "24 recordings (split folders, one folder a class)" in converted.stdout
    assert "4,800 events decoded = 4,800 in frames + 0 clipped + 0 dropped" in converted.stdout
    manifest = manifest_of(tmp_path / "shards")
    assert sum(s["samples"] for s in manifest["splits"].values()) == 24
    assert manifest["clips"]["decoded"] == 4800
    assert manifest["classes"] == {"0": "c0", "1": "c1", "2": "c2"}
    assert (tmp_path / "shards" / "test" / "test-000000.tar").is_file()


def test_a_sample_holds_what_the_raw_files_hold(raw: Path, tool, tmp_path: Path) -> None:
    import gzip
    import io

    tool("convert", raw, "--bins", "4")
    tool("shard", "--with-diffs")

    sample = next(
        s
        for s in samples_of(tmp_path / "shards", "test")
        if json.loads(s["json"])["recording"] == "test/c1/0000"
    )

    events = np.load(io.BytesIO(gzip.decompress(sample["events.npy.gz"])))
    data = np.frombuffer((raw / "test/c1/0000.bin").read_bytes(), np.uint8).reshape(-1, 5)
    truth = np.zeros((4, 2, 34, 34), np.uint8)
    t = (data[:, 2].astype(int) & 127) << 16 | data[:, 3].astype(int) << 8 | data[:, 4]
    start, stop = int(t[0]), int(t[-1]) + 1
    edges = [start + (stop - start) * i // 4 for i in range(5)]
    for row, ti in zip(data, t, strict=True):
        bin_ = next(i for i in range(4) if edges[i] <= ti < edges[i + 1])
        truth[bin_, row[2] >> 7, row[1], row[0]] += 1
    np.testing.assert_array_equal(events, truth)
    assert sample["rgb00.png"] == (raw / "test/c1/0000.png").read_bytes()
    assert sample["cls"] == b"1"
    meta = json.loads(sample["json"])
    assert meta["window_us"] == [[a, b] for a, b in pairwise(edges)]
    assert meta["decoded"] == meta["binned"] == 200
    difference = np.load(io.BytesIO(gzip.decompress(sample["diff_events.npy.gz"])))
    np.testing.assert_array_equal(difference, np.abs(np.diff(truth.astype(int), axis=0)))


@pytest.mark.parametrize("executor", ["inline", "threads", "processes"])
def test_every_executor_and_worker_count_gives_the_same_bytes(
    raw: Path, tool, tmp_path: Path, executor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = tmp_path / "reference"
    reference.mkdir()
    tool("convert", raw, "--executor", "inline", cwd=reference)
    tool("shard", "--executor", "inline", "--num-shards", "3", cwd=reference)

    workers = ["--workers", "2"] if executor != "inline" else []
    first = tool("convert", raw, "--executor", executor, *workers)
    second = tool("shard", "--executor", executor, "--num-shards", "3", *workers)

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    for folder in ("store", "shards"):
        assert tree_bytes(tmp_path / folder) == tree_bytes(reference / folder)


def test_a_second_run_does_nothing_and_says_so(raw: Path, tool, tmp_path: Path) -> None:
    tool("convert", raw)
    tool("shard")
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.tar")}

    convert, shard = tool("convert", raw), tool("shard")

    assert "nothing to do" in convert.stdout
    assert "nothing to do" in shard.stdout
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.tar")} == before


def test_other_settings_and_other_inputs_are_refused_with_what_differs(raw: Path, tool) -> None:
    tool("convert", raw)
    tool("shard")

    bins = tool("convert", raw, "--bins", "4")
    codec = tool("shard", "--codec", "npy")
    write_recording(raw / "train" / "c0" / "new", seed=5)
    more = tool("convert", raw)

    assert bins.returncode == codec.returncode == more.returncode == 2
    assert "bins 8 there, 4 now" in bins.stderr
    assert "codec npy.gz there, npy now" in codec.stderr
    assert "the recordings (1 added, as train/c0/new). Give --out NEW --reuse store" in more.stderr
    assert "--out" in bins.stderr


def test_lost_output_is_made_again_to_the_same_bytes(raw: Path, tool, tmp_path: Path) -> None:
    tool("convert", raw)
    tool("shard")
    before = {name: tree_bytes(tmp_path / name) for name in ("store", "shards")}
    victim = next(p for p in (tmp_path / "store").rglob("c/0/**/0") if p.is_file())
    victim.unlink()
    (tmp_path / "shards" / "train" / "train-000000.tar").unlink()
    (tmp_path / "shards" / "train" / ".tmp-train-000000.tar").write_bytes(b"half")

    refused = tool("shard")
    assert refused.returncode == 4
    assert "missing" in refused.stderr
    assert tool("convert", raw).returncode == 0
    assert tool("shard").returncode == 0

    assert {name: tree_bytes(tmp_path / name) for name in ("store", "shards")} == before


def test_a_broken_file_is_set_aside_with_reason_and_offset_and_the_others_go_on(
    raw: Path, tool, tmp_path: Path
) -> None:
    victim = raw / "train" / "c0" / "0001.bin"
    victim.write_bytes(victim.read_bytes()[:-2])
    (raw / "train" / "c1" / "0000.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")

    result = tool("convert", raw)

    assert result.returncode == 3
    lines = (tmp_path / "store/.eventkit/quarantine.jsonl").read_text().splitlines()
    bad = {entry["recording"]: entry for entry in map(json.loads, lines)}
    assert set(bad) == {"train/c0/0001", "train/c1/0000"}
    assert bad["train/c0/0001"]["reason"] == "truncated"
    assert bad["train/c0/0001"]["offset"] == 199 * 5
    assert "22 clips" in result.stdout
    assert "Traceback" not in result.stderr
    assert tool("shard").returncode == 0
    manifest = manifest_of(tmp_path / "shards")
    assert sum(s["samples"] for s in manifest["splits"].values()) == 22
    assert {e["recording"] for e in manifest["quarantine"]} == set(bad)


def test_skip_keeps_what_is_whole(raw: Path, tool) -> None:
    victim = raw / "train" / "c0" / "0001.bin"
    victim.write_bytes(victim.read_bytes()[:-2])

    result = tool("convert", raw, "--on-error", "skip")

    assert result.returncode == 0
    assert "4,799 events decoded = 4,799 in frames" in result.stdout
    assert "note: 1 recording is damaged at the end or inside (truncated)" in result.stdout
    assert "note: store/.eventkit/scan.jsonl has each of these" in result.stdout


def test_what_was_skipped_repaired_and_assumed_is_counted(tmp_path: Path, tool) -> None:
    (tmp_path / "raw").mkdir()
    for k in range(3):
        rows = [f"{0.000125 * i:.6f} {i % 30} {i % 20} {i % 2}" for i in range(100 + k)]
        rows[10] = "no event" if k else rows[10]
        rows[20] = "0.002300 1 1 1"
        (tmp_path / "raw" / f"{k}.txt").write_text("# a comment\n" + "\n".join(rows) + "\n")
    command = ("convert", "raw", "--sensor-size", "34x34", "--on-error", "repair")

    first = tool(*command)
    second = tool(*command)

    assert first.returncode == second.returncode == 0, first.stderr
    assert "note: 2 bad_row skipped in 2 recordings" in first.stdout
    assert "note: 3 jitter repaired in 3 recordings" in first.stdout
    assert "comment" not in first.stdout
    assert "note: 3 recordings, 0 among them: columns read as t,x,y,p" in first.stdout
    assert "note: 3 recordings, 0 among them: times read as s" in first.stdout
    notes = [line for line in first.stdout.splitlines() if "note: " in line]
    assert len(notes) == 5
    assert [line for line in second.stdout.splitlines() if "note: " in line] == notes


def test_of_many_assumptions_the_most_frequent_are_said_and_the_others_counted() -> None:
    notes = [f"times read as us: why {'abcdefg'[i]}" for i in range(7)]
    ledger = Ledger().as_dict() | {"side_faults": []}
    scans = [
        {"id": f"{k}", "fault": None, "ledger": ledger, "notes": [*notes[: k + 1], "aside"]}
        for k in range(7)
    ]

    said = scan_notes(scans, Path("store"))

    assert said[0] == "7 recordings, 0 among them: times read as us: why a"
    assert len(said) == 6
    assert said[-1] == "... and 2 other assumptions"


def test_strict_stops_at_the_first_bad_recording(raw: Path, tool, tmp_path: Path) -> None:
    (raw / "train" / "c0" / "0001.bin").write_bytes(b"abc")

    result = tool("convert", raw, "--strict")

    assert result.returncode == 2
    assert "0001.bin" in result.stderr
    assert not list((tmp_path / "store").glob("*.zarr"))
    # A second strict run finds the fault among the results that were kept.
    assert tool("convert", raw, "--strict").returncode == 2


def test_strict_does_not_look_at_what_follows(raw: Path, tool, tmp_path: Path) -> None:
    (raw / "test" / "c0" / "0000.bin").write_bytes(b"abc")

    result = tool("convert", raw, "--strict", "--executor", "inline")

    assert result.returncode == 2
    assert len((tmp_path / "store/.eventkit/scan.jsonl").read_text().splitlines()) == 1


def test_too_many_bad_recordings_fail_the_run(raw: Path, tool) -> None:
    (raw / "train" / "c0" / "0001.bin").write_bytes(b"abc")

    result = tool("convert", raw, "--max-bad", "1%")

    assert result.returncode == 3
    assert "more than --max-bad 1%" in result.stderr
    assert tool("shard").returncode == 2
    assert tool("convert", raw, "--max-bad", "10%").returncode == 3
    assert tool("shard").returncode == 0


def test_events_outside_the_sensor_are_named_dropped_or_counted(tmp_path: Path, tool) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "a.bin").write_bytes(atis_bytes([1, 200, 3], [1, 2, 3], [10, 20, 30], [0, 1, 1]))

    refused = tool("convert", raw, "--sensor-size", "34x34", "--out", "one")
    dropped = tool("convert", raw, "--sensor-size", "34x34", "--on-error", "skip", "--out", "two")

    assert refused.returncode == 3
    assert "x=200" in refused.stderr
    assert "(byte 5)" in refused.stderr
    assert dropped.returncode == 0
    assert "3 events decoded = 2 in frames + 0 clipped + 1 dropped (outside)" in dropped.stdout


def test_a_list_that_names_missing_clips_goes_on_and_says_so(raw: Path, tool) -> None:
    (raw / "train_label.txt").write_text("train/c0/0000 1 0\ntrain/c1/gone 1 1\n")

    result = tool("convert", raw)

    assert result.returncode == 3
    assert "train/c1/gone (train_label.txt:2)" in result.stdout
    assert "missing" in result.stderr


def test_clips_with_one_sense_are_kept_and_said_to_be_so(tmp_path: Path, tool) -> None:
    raw = tmp_path / "raw"
    write_recording(raw / "a" / "both", seed=1)
    write_recording(raw / "a" / "events", seed=2, picture=False)
    write_recording(raw / "b" / "rgb", seed=3)
    (raw / "b" / "rgb.bin").unlink()
    write_recording(raw / "b" / "neither", seed=4, picture=False)
    (raw / "b" / "neither.bin").write_bytes(b"")

    result = tool("convert", raw)
    tool("shard")

    assert result.returncode == 3
    assert "b/neither: empty" in result.stderr
    split_of = manifest_of(tmp_path / "shards")["splits"]
    metas = [
        json.loads(s["json"]) for split in split_of for s in samples_of(tmp_path / "shards", split)
    ]
    senses = {m["recording"]: (m["has_events"], m["has_rgb"]) for m in metas}
    assert senses == {"a/both": (True, True), "a/events": (True, False), "b/rgb": (False, True)}


def test_the_raw_folder_is_never_written_to(raw: Path, tool) -> None:
    before = tree_bytes(raw, hidden=True)

    inside = tool("convert", raw, "--out", raw / "store")
    tool("convert", raw)

    assert inside.returncode == 2
    assert "lies inside" in inside.stderr
    assert tree_bytes(raw, hidden=True) == before


@pytest.mark.parametrize("command", [["convert", "raw"], ["shard"]])
def test_two_coordinators_do_not_meet(raw: Path, tool, tmp_path: Path, command: list[str]) -> None:
    folder = tmp_path / ("store" if command[0] == "convert" else "shards")
    tool("convert", raw)
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"""
import sys, time
from pathlib import Path
from pipelines.lock import locked
with locked(Path({str(folder)!r})):
    print("held", flush=True)
    time.sleep(60)
""",
        ],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        result = tool(*command)
    finally:
        holder.kill()
        holder.wait()

    assert result.returncode == 5
    assert f"process {holder.pid}" in result.stderr
    assert tool(*command).returncode == 0  # the lock of a dead process is free


@pytest.mark.parametrize(
    "damage", ["flip", "cut", "delete", "index-flip", "index-delete", "stray", "manifest"]
)
def test_verify_names_every_kind_of_damage(raw: Path, tool, tmp_path: Path, damage: str) -> None:
    tool("convert", raw)
    tool("shard")
    tar = tmp_path / "shards" / "train" / "train-000000.tar"
    index = tmp_path / "shards" / "index" / "train.npz"
    data = bytearray(tar.read_bytes())
    victim = tar.name
    if damage == "flip":
        data[700] ^= 1
        tar.write_bytes(data)
    elif damage == "cut":
        tar.write_bytes(data[: len(data) // 1024 * 512])
    elif damage == "delete":
        tar.unlink()
    elif damage == "index-flip":
        raw_index = bytearray(index.read_bytes())
        raw_index[len(raw_index) // 2] ^= 1
        index.write_bytes(raw_index)
        victim = index.name
    elif damage == "index-delete":
        index.unlink()
        victim = index.name
    elif damage == "stray":
        shutil.copy(tar, tar.with_name("train-000009.tar"))
        victim = "train-000009.tar"
    else:
        (tmp_path / "shards" / "manifest.json").write_text("{")
        victim = "manifest.json"

    result = tool("verify")

    assert result.returncode == 4, result.stdout + result.stderr
    assert victim in result.stderr
    assert "Traceback" not in result.stderr


def test_verify_names_a_flipped_byte_in_the_store(raw: Path, tool, tmp_path: Path) -> None:
    tool("convert", raw)
    assert tool("verify", "store").returncode == 0
    victim = next(p for p in sorted((tmp_path / "store").rglob("events/c/0/*/*/*/0")))
    data = bytearray(victim.read_bytes())
    data[len(data) // 3] ^= 4
    victim.write_bytes(data)

    result = tool("verify", "store")

    assert result.returncode == 4
    assert "sha256" in result.stderr


def test_shards_are_read_by_plain_webdataset(raw: Path, tool, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    tool("convert", raw)
    tool("shard")

    tars = [str(p) for p in sorted((tmp_path / "shards" / "train").glob("*.tar"))]
    found = list(webdataset.WebDataset(tars, shardshuffle=False).decode("rgb8"))

    assert len(found) == manifest_of(tmp_path / "shards")["splits"]["train"]["samples"]
    assert found[0]["events.npy.gz"].shape == (8, 2, 34, 34)
    assert found[0]["rgb00.png"].shape == (28, 28, 3)
    assert found[0]["cls"] in (0, 1, 2)


def test_jpeg_sources_keep_their_bytes(tmp_path: Path, tool) -> None:
    from PIL import Image

    raw = tmp_path / "raw"
    for name in ("a/1", "b/1"):
        write_recording(raw / name, seed=1)
        with Image.open((raw / name).with_suffix(".png")) as image:
            image.save((raw / name).with_suffix(".jpg"), quality=80)
        (raw / name).with_suffix(".png").unlink()

    tool("convert", raw)
    tool("shard")

    split = next(iter(manifest_of(tmp_path / "shards")["splits"]))
    sample = samples_of(tmp_path / "shards", split)[0]
    recording = json.loads(sample["json"])["recording"]
    assert sample["rgb00.jpg"] == (raw / recording).with_suffix(".jpg").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["convert", "nowhere"], 2, "no such file"),
        (["convert", "empty", "--out", "x"], 2, "found none"),
        (["convert"], 2, "Missing argument"),
        (["convert", ".", "--bins", "0"], 2, "bins"),
        (["convert", ".", "--representation", "voxel:zhu", "--windows", "rgb"], 2, "voxel"),
        (["convert", ".", "--sensor-size", "big"], 2, "346x260"),
        (["shard", "nowhere"], 2, "eventkit convert"),
        (["verify", "nowhere"], 2, "no such folder"),
        (["convert", "a.bin", "--format", "nonsense"], 2, "atis-bin"),
        (["convert", "a.bin", "--out", "a.bin"], 2, "expected a folder"),
    ],
)
def test_a_users_mistake_is_one_sentence_with_the_right_exit_code(
    tool, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    (tmp_path / "empty").mkdir()
    write_recording(tmp_path / "a", seed=1)

    result = tool(*arguments)

    assert result.returncode == code
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_a_lost_plan_does_not_make_old_output_pass_for_new(raw: Path, tool, tmp_path: Path) -> None:
    tool("convert", raw)
    tool("shard")
    for folder in ("store", "shards"):
        (tmp_path / folder / ".eventkit" / "plan.json").unlink()

    converted = tool("convert", raw, "--bins", "4")
    sharded = tool("shard", "--codec", "npy")

    assert "nothing to do" not in converted.stdout
    assert (converted.returncode, sharded.returncode) == (0, 0), converted.stderr + sharded.stderr
    assert manifest_of(tmp_path / "shards")["members"][1] == "events.npy"
    assert tool("verify", "store").returncode == tool("verify").returncode == 0


def test_a_damaged_plan_is_damage(raw: Path, tool, tmp_path: Path) -> None:
    tool("convert", raw)
    (tmp_path / "store" / ".eventkit" / "plan.json").write_text("{")

    assert tool("convert", raw).returncode == 4
    assert tool("shard").returncode == 4


def test_an_empty_event_file_is_set_aside_even_beside_a_picture(raw: Path, tool) -> None:
    (raw / "train" / "c0" / "0001.bin").write_bytes(b"")

    result = tool("convert", raw)

    assert result.returncode == 3
    assert "train/c0/0001: empty" in result.stderr


def test_a_clip_without_events_and_rgb_is_left_out_and_counted(tmp_path: Path, tool) -> None:
    (tmp_path / "a.bin").write_bytes(
        atis_bytes([1] * 4, [1] * 4, [0, 1000, 4_500_000, 4_501_000], [1] * 4)
    )

    result = tool("convert", "a.bin", "--clip-us", "1000000")

    assert "store: 2 clips, 0 with events and RGB" in result.stdout
    assert "3 clips hold neither events nor RGB" in result.stdout
    assert "4 events decoded = 4 in frames" in result.stdout


def test_one_recording_on_another_assumed_sensor_is_set_aside(raw: Path, tool) -> None:
    victim = raw / "train" / "c0" / "0001.bin"
    data = bytearray(victim.read_bytes())
    data[0] = 120
    victim.write_bytes(data)

    result = tool("convert", raw)

    assert result.returncode == 3
    assert "train/c0/0001: outside_sensor" in result.stderr
    assert "--sensor-size" in result.stderr


def test_a_changed_class_name_in_the_manifest_is_damage(raw: Path, tool, tmp_path: Path) -> None:
    tool("convert", raw)
    tool("shard")
    manifest = tmp_path / "shards" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"0":"c0"', '"0":"c7"'))

    result = tool("verify")

    assert result.returncode == 4
    assert "digest" in result.stderr


def test_unfinished_work_never_ends_with_zero_when_the_reader_goes_away(
    raw: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", "from eventkit.cli import main; main()", "convert", str(raw)]
    done = subprocess.run(
        ["bash", "-c", 'set -o pipefail; "$@" | true', "bash", *command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )

    finished = (tmp_path / "store" / ".eventkit" / "receipts" / "pack-00000.json").is_file()
    assert finished == (done.returncode == 0)
    assert "Traceback" not in done.stderr


def test_the_same_damage_gives_the_same_bytes_elsewhere(raw: Path, tool, tmp_path: Path) -> None:
    (raw / "train" / "c0" / "0001.bin").write_bytes(b"abc")
    (raw / "train" / "c1" / "0000.png").write_bytes(b"broken")
    shutil.copytree(raw, tmp_path / "other" / "place")

    tool("convert", raw)
    tool("shard")
    tool("convert", tmp_path / "other" / "place", "--out", "store2")
    tool("shard", "store2", "--out", "shards2")

    quarantine = (tmp_path / "store/.eventkit/quarantine.jsonl").read_text()
    assert quarantine == (tmp_path / "store2/.eventkit/quarantine.jsonl").read_text()
    assert '"file":"train/c1/0000.png"' in quarantine
    assert tree_bytes(tmp_path / "shards") == tree_bytes(tmp_path / "shards2")
