"""`eventkit check` as a whole: clean sets, what is printed, real recordings."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from check_helpers import audit, write_lists
from helpers import ROOT
from pipelines_helpers import write_recording

from pipelines.check.findings import KINDS
from pipelines.check.table import table
from pipelines.executors import RunSettings


def test_a_clean_set_gives_no_finding_and_is_left_as_it_was(raw: Path) -> None:
    before = {p: (p.stat().st_size, p.stat().st_mtime_ns) for p in raw.rglob("*")}

    found = audit(raw)

    assert found.findings == ()
    assert found.is_clean(strict=True)
    assert (found.events, found.pictures) == (24 * 200, 24)
    assert {p: (p.stat().st_size, p.stat().st_mtime_ns) for p in raw.rglob("*")} == before


def test_a_clean_set_with_lists_gives_no_finding(raw: Path) -> None:
    write_lists(raw)

    assert audit(raw).findings == ()


def test_the_table_is_worst_first_capped_and_80_columns_wide(raw: Path) -> None:
    for file in (raw / "train").rglob("*.bin"):
        file.write_bytes(file.read_bytes()[:-2])
    (raw / "test/c0/0000.part").write_bytes(b"?")

    lines = table(audit(raw))

    assert max(map(len, lines)) <= 80
    assert "  error    truncated        18  ends early" in lines
    assert "  and 13 more; --json for all" in lines
    assert lines.index("error: truncated") < lines.index("note: unknown")
    assert "  train/c0/0000.bin, byte 995" in lines


def test_json_has_every_finding_under_stable_keys(raw: Path, tool) -> None:
    for file in (raw / "train").rglob("*.bin"):
        file.write_bytes(file.read_bytes()[:-2])

    result = tool("check", "--json", raw)

    facts = json.loads(result.stdout)
    assert result.returncode == 4
    assert sorted(facts) == [
        "bytes",
        "classes",
        "counts",
        "events",
        "findings",
        "layout",
        "ok",
        "pictures",
        "recordings",
        "root",
        "schema",
        "splits",
    ]
    assert facts["ok"] is False
    assert facts["counts"] == {"error": 18, "warning": 0, "note": 0}
    assert len(facts["findings"]) == 18
    assert sorted(facts["findings"][0]) == [
        "byte",
        "kind",
        "message",
        "others",
        "path",
        "severity",
        "t_us",
    ]


def test_exit_codes_and_notes_that_count_with_strict_only(tmp_path: Path, tool) -> None:
    write_recording(tmp_path / "raw" / "1", seed=1)

    assert tool("check", "raw").returncode == 0
    assert tool("check", "raw", "--strict").returncode == 4
    assert tool("check", "nowhere").returncode == 2


def test_threads_and_one_worker_find_the_same(raw: Path) -> None:
    (raw / "train/c0/0000.bin").write_bytes(b"")
    shutil.copy(raw / "test/c0/0000.bin", raw / "test/c0/0002.bin")

    threads = audit(raw, run=RunSettings(executor="threads", workers=3))

    assert threads.as_dict() == audit(raw).as_dict()


def test_every_kind_has_a_test_of_its_own() -> None:
    text = "".join(path.read_text() for path in Path(__file__).parent.glob("test_check_*.py"))

    assert [kind for kind in KINDS if f'"{kind}"' not in text] == []


# Real recordings.


def test_real_pairs_are_clean(nmnist_pairs: Path) -> None:
    found = audit(nmnist_pairs)

    assert found.findings == ()
    assert (len(found.found.recordings), found.events) == (1100, 4_518_827)


def test_one_recording_in_two_formats_is_found_among_real_ones(shared: Path) -> None:
    found = audit(shared / "dat", shared / "evt", layout="flat")

    same = [finding for finding in found.findings if finding.kind in ("shared", "duplicate")]
    assert len(same) == 1
    assert {same[0].path, *same[0].others} == {
        "dat/same_recording_as_evt3_1280x720.dat",
        "evt/evt3_1280x720.raw",
    }


@pytest.mark.parametrize(
    "name",
    [
        "evt/evt3_1280x720.raw",
        "evt/evt2_640x480.raw",
        "dat/same_recording_as_evt3_1280x720.dat",
        "es_bin/nmnist_sample.bin",
    ],
)
def test_a_real_recording_that_was_cut_is_one_finding(
    shared: Path, tmp_path: Path, name: str
) -> None:
    data = (shared / name).read_bytes()
    (tmp_path / Path(name).name).write_bytes(data[:-1])

    found = [f for f in audit(tmp_path).findings if f.severity != "note"]

    assert [finding.kind for finding in found] == ["truncated"]


def test_the_clean_set_is_found_through_a_link(raw: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(raw)

    assert audit(link).findings == ()


def test_the_page_lists_every_kind_as_the_code_has_it() -> None:
    page = (ROOT / "docs" / "check.md").read_text()

    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*) \|$", page, re.MULTILINE)

    assert {kind: (severity, meaning) for kind, severity, meaning in rows} == KINDS
