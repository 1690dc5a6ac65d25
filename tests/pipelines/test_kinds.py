"""What a folder is: the wrong one is named with the cure, and an empty store is one too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from convert_helpers import INLINE, convert, shard
from helpers import run_tool
from pipelines_helpers import tree_bytes, write_recording

from eventkit.clip_settings import ClipSettings
from eventkit.errors import SettingsError
from pipelines.convert import convert_raw
from pipelines.datasets.splits import SplitRule
from pipelines.kinds import kind_of
from pipelines.opening import ReadSettings
from pipelines.shard import shard_store
from pipelines.shard_settings import ShardSettings

CUT = b"% evt 3.0\n% format EVT3;height=34;width=34\n% end\n\x01"


@pytest.fixture
def one(tmp_path: Path) -> Path:
    """One recording, where a split has but one."""
    write_recording(tmp_path / "raw" / "a", seed=1)
    return tmp_path / "raw"


def convert_to(raw: Path, store: Path, said: list[str] | None = None, **settings):
    """Convert with settings of clips; ``reuse`` is a store."""
    reuse = settings.pop("reuse", None)
    return convert_raw(
        [raw],
        store,
        clip=ClipSettings(bins=4, **settings),
        read=ReadSettings(sensor_size=(34, 34)),
        layout="auto",
        rule=SplitRule(),
        run=INLINE,
        say=lambda text: said.append(text) if said is not None else None,
        reuse=reuse,
    )


def test_a_store_and_shards_that_are_swapped_are_named(one: Path) -> None:
    convert(one)
    shard(one)
    store, shards = one.parent / "store", one.parent / "shards"
    before = tree_bytes(one.parent, hidden=True)
    assert (kind_of(store), kind_of(shards), kind_of(one)) == ("store", "shards", None)

    def shard_to(made: Path, out: Path) -> None:
        shard_store(made, out, settings=ShardSettings(), run=INLINE)

    with pytest.raises(SettingsError, match=r"shards holds shards, not a store: .*another --out"):
        convert_to(one, shards)
    with pytest.raises(SettingsError, match=r"shards holds shards, not a store: .*convert. made"):
        convert_to(one, one.parent / "new", reuse=shards)
    with pytest.raises(SettingsError, match=r"shards holds shards, not a store: .*convert. made"):
        shard_to(shards, one.parent / "new")
    with pytest.raises(SettingsError, match=r"store holds a store, not shards: .*another --out"):
        shard_to(store, store)

    now = tree_bytes(one.parent, hidden=True)
    assert {name: data for name, data in now.items() if not name.startswith("new/")} == before


def test_the_origin_that_verify_is_given_must_be_a_store(one: Path) -> None:
    convert(one)
    shard(one)

    result = run_tool("verify", "--deep", "--store", "shards", cwd=one.parent)

    assert result.returncode == 2
    assert "shards holds shards, not a store" in result.stderr


def test_a_store_of_which_everything_was_set_aside_is_whole(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.raw").write_bytes(CUT)
    assert run_tool("convert", "raw", cwd=tmp_path).returncode == 3
    assert kind_of(tmp_path / "store") == "store"

    report = run_tool("report", "store", cwd=tmp_path)
    verify = run_tool("verify", "store", cwd=tmp_path)

    assert report.returncode == 0, report.stderr
    assert "truncated" in (tmp_path / "store" / "report.html").read_text()
    assert verify.returncode == 0, verify.stderr
    assert "store: whole; 0 packs, 0 clips" in verify.stdout


def test_a_plan_that_holds_nothing_makes_room_for_another(one: Path) -> None:
    store, said = one.parent / "store", []
    (one / "a.bin").write_bytes(b"\x01")
    (one / "a.png").unlink()
    assert convert_to(one, store).clips == 0
    write_recording(one / "b", seed=2)

    outcome = convert_to(one, store, said, clip_us=100_000)

    assert outcome.clips > 0
    assert not outcome.did_nothing
    assert any("planned anew" in line for line in said)
    plan = json.loads((store / ".eventkit/plan.json").read_text())
    assert plan["settings"]["clip_us"] == 100_000
    with pytest.raises(SettingsError, match="was made from something else"):
        convert_to(one, store)


def test_the_end_names_an_empty_split_and_a_command_that_works(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_recording(tmp_path / "raw" / split / "c0" / "a", seed=len(split))
    cut = tmp_path / "raw" / "test" / "c0" / "a.bin"
    cut.write_bytes(cut.read_bytes()[:-2])
    options = ("convert", "raw", "--sensor-size", "34x34", "--out", "a store")

    first = run_tool(*options, cwd=tmp_path)
    sharded = run_tool("shard", "a store", cwd=tmp_path)
    second = run_tool(*options, "--out", "a store-skip", "--on-error", "skip", cwd=tmp_path)

    empty = "note: test is empty: its 1 recording was set aside or gave no clip"
    assert first.returncode == 3
    assert empty in first.stdout
    assert "1 recording set aside:" in first.stderr
    assert "the same command with --out 'a store-skip' --on-error skip" in first.stderr
    assert empty in sharded.stdout
    assert "shards/train: 1 sample in 1 shard," in sharded.stdout
    assert second.returncode == 0, second.stderr
    assert "is empty" not in second.stdout


def test_an_archive_is_to_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "set.zip").write_bytes(b"PK")

    for command in ("convert", "check"):
        result = run_tool(command, "set.zip", cwd=tmp_path)
        assert result.returncode == 2
        assert "found none but set.zip: unpack it first; `eventkit info zip://" in result.stderr


def test_settings_that_suit_no_recording_leave_no_dead_store(one: Path) -> None:
    write_recording(one / "b", seed=2)
    store = one.parent / "store"

    with pytest.raises(SettingsError, match=r"none of 2 recordings can be converted so: .* 34x34"):
        convert_to(one, store, size=(9999, 9999))

    assert convert_to(one, store).clips == 2
