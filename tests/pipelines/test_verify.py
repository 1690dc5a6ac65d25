"""verify: a flipped byte, a cut and a deletion of every kind of file are named; so is a stray."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from convert_helpers import convert, shard
from crash_helpers import SHARD, Clean, finish
from helpers import run_tool
from pipelines_helpers import tree_bytes, write_recording

from eventkit.errors import MissingDataError
from pipelines.executors import open_pool
from pipelines.kinds import kind_of
from pipelines.verify import Verdict, verify_shards, verify_store

FILES = {
    "shards": {
        "tar": "train/train-000001.tar",
        "sample index": "index/train.npz",
        "wids": "wids-train.json",
        "energon": "train/train-000001.tar.idx",
        "energon counts": ".nv-meta/.info.json",
        "energon splits": ".nv-meta/split.yaml",
        "energon kind": ".nv-meta/dataset.yaml",
        "energon id": ".nv-meta/index.uuid",
        "dali": "index/dali/train-000001.idx",
        "card": "README.md",
        "manifest": "manifest.json",
        "plan": ".eventkit/plan.json",
        "receipt": ".eventkit/receipts/train_train-000001.json",
    },
    "store": {
        "zarr shard": "pack-00001.zarr/events/c/0/0/0/0/0",
        "zarr images": "pack-00001.zarr/rgb_bytes/c/0",
        "zarr column": "pack-00001.zarr/binned/c/0/0",
        "zarr array": "pack-00001.zarr/events/zarr.json",
        "zarr group": "pack-00001.zarr/zarr.json",
        "pack list": ".eventkit/packs/pack-00001.json",
        "plan": ".eventkit/plan.json",
        "receipt": ".eventkit/receipts/pack-00001.json",
    },
}
EVERY = [(folder, kind) for folder, kinds in FILES.items() for kind in kinds]


@pytest.fixture(scope="module")
def made(clean: Clean, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the clean run, for damage that is mended again."""
    folder = tmp_path_factory.mktemp("made")
    for name in ("raw", "store", "shards"):
        shutil.copytree(clean.folder / name, folder / name)
    return folder


@pytest.fixture
def copy(clean: Clean, tmp_path: Path) -> Path:
    for name in ("raw", "store", "shards"):
        shutil.copytree(clean.folder / name, tmp_path / name)
    return tmp_path


def look(folder: Path) -> Verdict:
    with open_pool("inline") as pool:
        return (verify_store if kind_of(folder) == "store" else verify_shards)(folder, pool)


def damaged(data: bytes) -> Iterator[tuple[str, bytes | None]]:
    """Yield one byte flipped at the start, the middle and the end, two cuts, and nothing at all."""
    for place in (0, len(data) // 3, len(data) // 2, len(data) - 1):
        flipped = bytearray(data)
        flipped[place] ^= 1
        yield f"byte {place} flipped", bytes(flipped)
    yield "cut in the middle", data[: len(data) // 2]
    yield "last byte cut", data[:-1]
    yield "emptied", b""
    yield "deleted", None


@pytest.mark.parametrize(("folder", "kind"), EVERY)
def test_damage_to_every_kind_of_file_is_named(made: Path, folder: str, kind: str) -> None:
    victim = made / folder / FILES[folder][kind]
    whole = victim.read_bytes()
    for what, data in damaged(whole):
        victim.unlink()
        if data is not None:
            victim.write_bytes(data)

        problems = look(made / folder).problems

        victim.write_bytes(whole)
        assert problems, what
        assert all(str(victim) in problem for problem in problems), (what, problems)
    assert look(made / folder).problems == []


def test_a_blank_in_the_manifest_is_a_flipped_byte_too(made: Path) -> None:
    file = made / "shards" / "manifest.json"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + b"\t")

    problems = look(made / "shards").problems

    file.write_bytes(whole)
    assert problems == [
        f"{file}: expected the bytes of its content, got others; run `eventkit shard` again"
    ]


@pytest.mark.parametrize(
    ("folder", "stray"),
    [
        ("shards", "train/train-000009.tar"),
        ("shards", "train/notes.txt"),
        ("shards", "more.tar"),
        ("shards", "index/old.npz"),
        ("shards", "train/.tmp-1-2-3"),
        ("shards", ".eventkit/receipts/train_train-000009.json"),
        ("store", "pack-00001.zarr/events/c/9/0/0/0/0"),
        ("store", "pack-00009.zarr/zarr.json"),
        ("store", ".eventkit/packs/pack-00009.json"),
        ("store", ".tmp-1-2-3"),
    ],
)
def test_a_file_that_nothing_lists_is_named(made: Path, folder: str, stray: str) -> None:
    path = made / folder / stray
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")

    problems = look(made / folder).problems

    path.unlink()
    if stray.startswith("pack-00009"):
        path.parent.rmdir()
    assert len(problems) == 1
    assert str(path) in problems[0]


def test_files_of_others_are_no_damage(made: Path) -> None:
    for name in ("LICENSE", "report.html", ".gitattributes"):
        (made / "shards" / name).touch()

    found = look(made / "shards")

    for name in ("LICENSE", "report.html", ".gitattributes"):
        (made / "shards" / name).unlink()
    assert found.problems == []
    assert found.notes == [f"{made / 'shards' / 'LICENSE'}: nothing lists it"]


def test_what_a_scan_of_a_bucket_has_noted_when_it_was_stopped_is_no_damage(copy: Path) -> None:
    part = copy / "store" / ".eventkit" / "scan" / "000000.jsonl"
    part.parent.mkdir()
    part.write_bytes(b"{}\n")

    assert look(copy / "store").problems == []


def test_a_copy_without_hidden_notes_of_the_run_is_whole(copy: Path) -> None:
    shutil.rmtree(copy / "shards" / ".eventkit")

    assert look(copy / "shards").problems == []


@pytest.mark.long
@pytest.mark.parametrize(("folder", "kind"), EVERY)
def test_what_verify_says_to_do_mends_it(copy: Path, clean: Clean, folder: str, kind: str) -> None:
    """Plans apart: what was decided cannot be made again from the rest."""
    victim = copy / folder / FILES[folder][kind]
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    (problem, *_) = look(copy / folder).problems
    if kind == "plan" and folder == "store":
        return
    if "remove it" in problem:
        victim.unlink()
    if "and manifest.json" in problem:
        (copy / "shards" / "manifest.json").unlink()

    finish(*(("convert", "raw") if folder == "store" else SHARD), cwd=copy)

    assert look(copy / folder).problems == []
    assert tree_bytes(copy / folder) == tree_bytes(clean.folder / folder)


def test_a_manifest_with_another_digit_is_written_anew(copy: Path, clean: Clean) -> None:
    file = copy / "shards" / "manifest.json"
    whole = file.read_bytes()
    digest = json.loads(whole)["digest"].encode()
    file.write_bytes(whole.replace(digest, digest[:-1] + (b"1" if digest[-1:] == b"0" else b"0")))

    finish(*SHARD, cwd=copy)

    assert file.read_bytes() == whole


def test_the_command_names_the_file_and_exits_with_four(copy: Path) -> None:
    (copy / "shards" / "train" / "train-000002.tar").unlink()

    problem = "shards/train/train-000002.tar: missing; run `eventkit shard` again"
    said = run_tool("verify", cwd=copy)
    as_json = run_tool("verify", "--json", cwd=copy)

    assert said.returncode == as_json.returncode == 4
    assert said.stderr == f"error: shards is damaged: 1 fault\n  {problem}\n"
    assert json.loads(as_json.stdout)["problems"] == [problem]


def test_a_set_that_is_none_is_a_mistake_and_no_damage(tmp_path: Path) -> None:
    with open_pool("inline") as pool:
        with pytest.raises(MissingDataError, match="no such folder"):
            verify_shards(tmp_path / "nowhere", pool)
        with pytest.raises(MissingDataError, match=r"manifest\.json: missing"):
            verify_shards(tmp_path, pool)


def test_of_many_problems_the_first_are_shown() -> None:
    found = Verdict()
    found.add(f"file {i:02d}: missing" for i in range(25))

    assert found.shown()[-2:] == ["file 19: missing", "and 5 more; --json has all"]
    assert len(found.shown()) == 21


def test_a_store_can_be_verified_by_any_executor(clean: Clean) -> None:
    said = {
        run_tool("verify", "store", "--executor", executor, cwd=clean.folder).stdout
        for executor in ("inline", "threads")
    }

    assert said == {f"store: whole; 4 packs, 24 clips, {24 * 300:,} decoded in clips\n"}
    assert os.listdir(clean.folder / "store" / ".eventkit" / "receipts")


def test_faults_are_told_a_line_each_without_the_names_of_classes(copy: Path) -> None:
    tars = sorted((copy / "shards" / "train").glob("*.tar"))[:2]
    for tar in tars:
        data = bytearray(tar.read_bytes())
        data[150] ^= 1  # in the checksum of the first header
        tar.write_bytes(data)
    (copy / "shards" / "mine.txt").write_text("a note")

    said = run_tool("verify", cwd=copy)

    first, *lines = said.stderr.splitlines()
    assert said.returncode == 4
    assert first.startswith("error: shards is damaged: ")
    assert sum(f"{tar.name}: its sha256" in line for tar in tars for line in lines) == 2
    assert all(line.startswith("  ") for line in lines)
    assert lines[-1] == "  note: shards/mine.txt: nothing lists it"
    assert "Error" not in said.stderr
    assert "eventkit verify" not in said.stderr
    assert "expected samples that can be read" in said.stderr


def test_events_in_no_clip_are_told_as_convert_counts_them(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for i in range(4):
        write_recording(raw / f"c{i % 2}" / f"{i}", seed=i)
    outcome = convert(raw, clip_us=70_000)
    shard(raw)
    assert outcome.dropped["tail"] > 0

    for folder in ("store", "shards"):
        found = look(tmp_path / folder)
        inside = outcome.totals["decoded"] - outcome.dropped["tail"]
        assert found.totals["decoded"] == inside
        assert found.notes == [
            f"{outcome.dropped['tail']} events are in no clip (tail); `eventkit convert` counts "
            f"{outcome.totals['decoded']} decoded with them"
        ]
