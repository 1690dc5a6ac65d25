"""What the release trains, counted from the model at its full size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT

from velora.compat import CompatVELoRA
from velora.compat.count import Row, mib, random_model, report_lines, tower, trained_rows

PAGE = ROOT / "docs" / "reproduce.md"

# (numbers, with gradient): velora.md 5.1, counted there from the release's own classes.
HEAD_ROWS = {
    "stream embeddings": (2_304, True),
    "visual embedding": (393_984, True),
    "reconstruction block": (7_087_872, True),
    "reconstruction norm": (1_536, True),
    "fusion block": (7_087_872, True),
    "self-attention": (1_771_776, True),
    "head": (875_634, True),
    "unused: CLS_token": (7_680, False),
    "unused: tex_embed": (768, False),
    "unused: word_embed": (393_984, False),
    "unused: cross_model": (1_769_472, False),
    "unused: weight_layer": (87_666, False),
    "unused: remain_weight_layer": (151_493, False),
    "unused: bn": (228, False),
}


@pytest.fixture(scope="module")
def model() -> CompatVELoRA:
    return random_model(num_classes=114)


@pytest.fixture(scope="module")
def rows(model: CompatVELoRA) -> dict[str, Row]:
    """By part, after a backward pass."""
    return {row.part: row for row in trained_rows(model)}


def test_a_tower_has_the_published_numbers(model: CompatVELoRA) -> None:
    one = tower(model)

    assert (one.visual_lora, one.text_lora, one.lora) == (368_640, 245_760, 614_400)
    assert one.visual == 86_192_640
    assert one.visual + one.text == 149_620_737
    assert one.total == 150_235_137
    assert 3 * one.lora == 1_843_200
    assert f"{mib(one.total):.2f} {mib(one.lora):.2f}" == "573.10 2.34"
    assert f"{mib(3 * one.total):.1f} {mib(3 * one.lora):.2f}" == "1719.3 7.03"


def test_what_is_registered_and_what_receives_gradient_is_counted_exactly(
    rows: dict[str, Row],
) -> None:
    expected = {part: (n, n if used else 0) for part, (n, used) in HEAD_ROWS.items()}
    expected |= {f"visual LoRA ({s})": (368_640, 368_640) for s in ("rgb", "event", "diff")}
    expected["text LoRA (no gradient)"] = (737_280, 0)
    expected["all"] = (21_475_469, 18_326_898)

    assert {part: row[1:] for part, row in rows.items()} == expected


def test_every_tensor_that_receives_a_gradient_receives_more_than_zeros(
    model: CompatVELoRA, rows: dict[str, Row]
) -> None:
    reached = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    idle = [name for name, gradient in reached.items() if not bool(gradient.any())]

    assert all(bool(gradient.isfinite().all()) for gradient in reached.values())

    # B starts at zero, and then nothing reaches A.
    assert idle == [
        f"towers.trunk.vit.blocks.{i}.mlp.{layer}.lora_a"
        for i in range(12) for layer in ("fc1", "fc2")
    ]  # fmt: skip
    assert rows["all"].with_gradient == sum(g.numel() for g in reached.values())


def test_with_the_classes_of_hardvs_the_sums_are_those_of_hardvs(rows: dict[str, Row]) -> None:
    model = random_model(num_classes=300)

    trained = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}

    assert sum(trained.values()) == 23_047_541
    used = sum(n for name, n in trained.items() if not name.startswith(("unused.", "text.")))
    assert used == 19_755_564


def test_one_frozen_trunk_serves_three_towers(model: CompatVELoRA) -> None:
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)

    assert frozen == tower(model).visual


def test_the_page_quotes_what_the_command_prints(model: CompatVELoRA, rows: dict[str, Row]) -> None:
    printed = "\n".join(report_lines(tower(model), list(rows.values())))

    assert printed in page_text()


def page_text() -> str:
    """The page with its indented blocks set back."""
    return "\n".join(line.removeprefix("    ") for line in PAGE.read_text().splitlines())


def test_a_number_of_classes_that_cannot_be_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "velora.compat.count", "--num-classes", "0"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert "0 is not in the range" in done.stderr
    assert done.stdout == ""


@pytest.mark.long
def test_the_command_prints_what_the_page_shows(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "velora.compat.count"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.rstrip() in page_text()
