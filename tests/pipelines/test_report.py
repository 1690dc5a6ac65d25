"""The page on a set: its numbers are those of the receipts, and it needs nothing but itself."""

from __future__ import annotations

import base64
import io
import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from convert_helpers import convert, shard
from named_miniatures import asldvs
from page_helpers import Page
from PIL import Image
from pipelines_helpers import write_recording

from eventkit.errors import MissingDataError
from eventkit.render.scene import Scene
from pipelines.quarantine import TooManyBadError
from pipelines.receipts import read_json, read_plan, receipt_path, write_plan, write_receipt
from pipelines.report import write_report
from pipelines.report.facts import gather
from pipelines.report.page import mass_balance
from pipelines.report.pictures import SHOWN, _card, picks

HOSTILE = "<img src=x onerror=alert(1)>\"'&"
MOST_BYTES = 2_000_000


def page_of(folder: Path) -> Page:
    return Page((folder / "report.html").read_text("utf-8"))


def number(text: str) -> int:
    return int(text.replace(",", ""))


def report(folder: Path) -> Page:
    write_report(folder, folder / "report.html")
    return page_of(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store and shards of three classes, cut into clips with tails, one recording broken."""
    folder = tmp_path_factory.mktemp("set")
    raw = folder / "raw"
    for i in range(9):
        name = HOSTILE if i % 3 == 2 else f"c{i % 3}"
        write_recording(raw / ("test" if i > 6 else "train") / name / f"{i:04d}", seed=i)
    broken = raw / "train" / "c0" / "a\u202eb\n<script>.bin"
    broken.write_bytes(b"abc")
    convert(raw, clip_us=130_000)
    shard(raw)
    return folder


@pytest.mark.parametrize("kind", ["store", "shards"])
def test_the_numbers_are_those_of_the_receipts(folder: Path, kind: str) -> None:
    receipts = [
        json.loads(path.read_bytes())
        for path in (folder / "store" / ".eventkit" / "receipts").glob("*.json")
    ]
    manifest = read_json(folder / "shards" / "manifest.json")
    assert manifest is not None

    page = report(folder / kind)

    events = page.table("events")
    decoded = sum(receipt["totals"]["decoded"] for receipt in receipts)
    tail = sum(receipt["dropped"].get("tail", 0) for receipt in receipts)
    assert tail > 0
    assert number(events["decoded"][0]) == decoded == 9 * 200
    assert number(events["dropped: tail"][0]) == tail
    assert sum(number(row[0]) for name, row in events.items() if name != "decoded") == decoded
    splits = page.table("split")
    assert {name: number(row[0]) for name, row in splits.items()} == {
        name: facts["samples"] for name, facts in manifest["splits"].items()
    }
    classes = page.table("class")
    assert set(classes) == {"c0", "c1", HOSTILE}
    for label, name in manifest["classes"].items():
        *_, whole = classes[name]
        expected = sum(f["classes"].get(label, 0) for f in manifest["splits"].values())
        assert number(whole) == expected
    facts = gather(folder / kind)
    assert sum(facts.durations_us.values()) == sum(facts.rates_hz.values()) == facts.clips
    assert set(facts.durations_us) == {125_000}


@pytest.mark.parametrize("kind", ["store", "shards"])
def test_the_page_needs_nothing_else_and_runs_nothing(folder: Path, kind: str) -> None:
    page = report(folder / kind)

    text = (folder / kind / "report.html").read_text("utf-8")
    assert "://" not in text
    assert "url(" not in text
    assert str(folder) not in text
    for name, attributes in page.elements:
        assert name not in ("script", "link", "iframe", "object", "a", "base", "form")
        assert not any(key.startswith("on") for key in attributes)
        assert str(attributes.get("src", "data:image/")).startswith("data:image/")
        assert "href" not in attributes


def test_hostile_names_are_shown_as_text(folder: Path) -> None:
    page = report(folder / "store")

    aside = page.table("recording")
    assert list(aside) == ["train/c0/a\\u202eb\\n<script>"]
    (row,) = aside.values()
    assert row[0] == "truncated"
    assert row[1] == "train/c0/a\\u202eb\\n<script>.bin"
    assert "\u202e" not in "".join(page.text)
    assert page.table("reason") == {"truncated": ["1", "10.0 %"]}


def test_the_same_set_gives_the_same_page_anywhere(folder: Path, tmp_path: Path) -> None:
    for kind in ("store", "shards"):
        shutil.copytree(folder / kind, tmp_path / "elsewhere" / kind)
        write_report(folder / kind, tmp_path / "one.html")
        write_report(tmp_path / "elsewhere" / kind, tmp_path / "two.html")
        assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


@pytest.mark.parametrize("kind", ["store", "shards"])
def test_twelve_clips_of_all_classes_can_be_seen(folder: Path, kind: str) -> None:
    page = report(folder / kind)

    images = [attributes for name, attributes in page.elements if name == "img"]
    assert sum(name == "figure" for name, _ in page.elements) == SHOWN
    assert len(images) == 4 * SHOWN
    for image in images:
        head, _, data = str(image["src"]).partition(";base64,")
        opened = Image.open(io.BytesIO(base64.b64decode(data)))
        assert f"data:image/{opened.format}".lower() == head
        assert opened.size in ((34, 34), (28, 28))
        assert image["alt"]
    seen = {str(image["alt"]) for image in images}
    assert {f"events of {name}" for name in ("c0", "c1", HOSTILE)} <= seen


@pytest.mark.parametrize("classes", [1, 5, 12, 13, 1000])
def test_clips_are_chosen_from_as_many_classes_as_there_is_room_for(classes: int) -> None:
    counts = {label: 1 + label % 3 for label in range(classes)}

    chosen = picks(counts)

    assert len(chosen) == min(SHOWN, sum(counts.values()))
    assert len(set(chosen)) == len(chosen)
    assert len({pick.label for pick in chosen}) == min(classes, SHOWN)
    assert all(0 <= pick.number < counts[pick.label] for pick in chosen)


def test_a_damaged_pack_is_told_in_the_place_of_its_picture(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "store", tmp_path / "store")
    for chunk in (tmp_path / "store").glob("*.zarr/events/c/**/0"):
        if chunk.is_file():
            chunk.write_bytes(b"\1" * 10)

    page = report(tmp_path / "store")

    told = [text for text in page.text if "is damaged" in text]
    assert len(told) == SHOWN
    assert str(tmp_path) not in "".join(told)


def test_an_unfinished_and_a_refused_store_say_so_first(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "store", tmp_path / "store")
    (tmp_path / "store" / ".eventkit" / "receipts" / "pack-00000.json").unlink()
    assert "Not finished: 0 of 1 packs" in "".join(report(tmp_path / "store").text)

    for i in range(2):
        write_recording(tmp_path / "raw" / f"c{i}" / "0001", seed=i)
    (tmp_path / "raw" / "c0" / "0002.bin").write_bytes(b"abc")
    shutil.rmtree(tmp_path / "store")
    with pytest.raises(TooManyBadError):
        convert(tmp_path / "raw", max_bad=1)
    assert "No shards are made of this store" in "".join(report(tmp_path / "store").text)


def test_frames_without_counts_show_where_events_were_met(folder: Path) -> None:
    facts = gather(folder / "store")
    facts.settings = {**facts.settings, "mass": "none"}

    parts = dict(mass_balance(facts))

    assert "in frames" not in parts
    assert parts["in windows"] == facts.totals["binned"]
    assert sum(parts.values()) == facts.totals["decoded"]


def test_a_page_on_a_very_large_set_stays_small(folder: Path, tmp_path: Path) -> None:
    """A thousand classes of long names, thousands of entries; pictures are those of noise."""
    store = tmp_path / "store"
    shutil.copytree(folder / "store" / ".eventkit", store / ".eventkit")
    plan = read_plan(store) or {}
    plan["classes"] = {str(i): f"{i}{HOSTILE * 20}" for i in range(1000)}
    write_plan(store, plan)
    content = read_json(receipt_path(store, "pack-00000")) or {}
    content["tally"]["classes"] = {"train": {str(i): i + 1 for i in range(1000)}}
    content["dropped"] = {f"r{i}": 1 for i in range(1000)}
    write_receipt(store, "pack-00000", content)
    entry = {"recording": "\u202e" * 5000, "reason": "x", "file": HOSTILE * 500}
    entry |= {"offset": 1, "time_us": 1, "message": "&\u202e" * 5000, "attempts": 1}
    lines = "".join(json.dumps({**entry, "reason": f"r{i}"}) + "\n" for i in range(2000))
    (store / ".eventkit" / "quarantine.jsonl").write_text(lines)
    rng = np.random.default_rng(0)
    noise = Scene(
        rgb=rng.integers(0, 256, (3, 480, 480, 3), np.uint8),
        events=rng.integers(0, 3, (3, 2, 720, 720), np.uint8),
    )

    size = write_report(store, tmp_path / "report.html")

    assert size + SHOWN * len(_card(noise, "c")) < MOST_BYTES
    classes = page_of(tmp_path).table("class")
    assert len(classes) == 31
    assert sum(number(row[-1]) for row in classes.values()) == 1000 * 1001 // 2


def test_what_is_no_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="eventkit convert RAW"):
        write_report(tmp_path, tmp_path / "report.html")


def test_the_command_reports_on_the_shards_it_finds(folder: Path, tool) -> None:
    result = tool("report", cwd=folder)

    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("shards/report.html: ")
    assert "RGB-Event clips: shards" in "".join(page_of(folder / "shards").text)


@pytest.mark.parametrize("kind", ["store", "shards"])
def test_the_printed_commands_make_the_same_set(kind: str, tmp_path: Path, tool) -> None:
    """Rows of ASL-DVS are counted from below, which no option says but the name of the set."""
    raw = asldvs(tmp_path / "raw")
    rule = ("--split-by", "([a-z]_[0-9]+)$", "--split", "stratified")
    for command in (["convert", raw, "--clip-us", "150000", *rule], ["shard", "--seed", "3"]):
        assert tool(*command, "--executor", "inline").returncode == 0

    (printed,) = [text for text in report(tmp_path / kind).text if "eventkit convert" in text]

    words = [str(raw) if word == "RAW" else word for word in shlex.split(printed)[1:]]
    assert ("--dataset" in words, "--split" in words) == (True, True)
    assert tool(*words, "--out", "again", "--executor", "inline").returncode == 0
    there, again = (read_plan(tmp_path / name) or {} for name in ("store", "again"))
    assert there["settings"]["flip_y"]
    assert again == there
