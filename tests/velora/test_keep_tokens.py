"""model.keep_tokens: a clip's blank patches are left out, of all its frames and streams alike."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from model_helpers import frames_of, make_model, random_clips, wake
from pruning_helpers import (
    SIDE,
    TRUNKS,
    by_the_loop,
    drawn,
    event_clips,
    kept_by_hand,
    kept_of,
    pruning_model,
)
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from eventkit.errors import EventKitError, SettingsError
from velora.compat import build_compat
from velora.config import load_settings, parse_settings
from velora.files.export import export
from velora.files.merge import DenseVELoRA
from velora.frames.frames import Frames
from velora.model.paper import VELoRA
from velora.model.pruning import num_kept, own_pictures
from velora.training.losses import loss_terms


@pytest.mark.parametrize(
    ("kind", "ground", "share"),
    [
        ("vit", 1.0, 0.5),
        ("vit", 0.5, 0.25),
        ("vit", 0.0, 0.3),
        ("dinov3", 1.0, 0.4),
        ("eva02", 0.5, 0.5),
    ],
)
def test_one_pass_computes_what_a_loop_over_clips_computes(
    kind: str, ground: float, share: float
) -> None:
    model = pruning_model(kind, keep_tokens=share).train()
    rgb, event = random_clips(2, 3, seed=1), event_clips(2, 3, seed=2, ground=ground)
    rgb = [clip[:1].expand(3, -1, -1, -1) for clip in rgb]  # so that events decide

    output = model({"rgb": frames_of(rgb, 3), "event": frames_of(event, 3)})

    expected = [
        by_the_loop(model, r, e, ground=ground, count=num_kept(share, 16))
        for r, e in zip(rgb, event, strict=True)
    ]
    logits, losses = (torch.stack(parts) for parts in zip(*expected, strict=True))
    torch.testing.assert_close(output.logits, logits, rtol=0, atol=1e-10)
    torch.testing.assert_close(output.rec_loss, losses.mean(), rtol=0, atol=1e-10)
    assert output.logits.dtype == torch.float64


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("vit", {}),
        ("vit", {"fusion": "figure"}),
        ("vit", {"temporal": "attention"}),
        ("vit", {"tuning": "full", "trunks": "separate"}),
        ("vit", {"streams": "rgb", "difference": "none"}),
        ("vit", {"streams": "event"}),
        ("dinov3", {}),
        ("dinov3", {"fusion": "figure"}),
        ("eva02", {}),
    ],
)
@pytest.mark.parametrize("recompute", [False, True])
def test_to_keep_all_patches_is_to_leave_none_out(
    kind: str, options: dict[str, Any], recompute: bool
) -> None:
    whole = pruning_model(kind, keep_tokens=1.0, **options).train()
    kept = copy.deepcopy(whole)
    kept.keep_tokens = 0.99  # of 16 patches that is 16
    kept.checkpointing = recompute
    frames = {
        "rgb": frames_of(random_clips(3, 3, seed=1), 3),
        "event": frames_of([*event_clips(2, 3, seed=2), None], 3),
    }
    if options.get("streams") == "event":
        frames["event"] = frames_of(event_clips(3, 3, seed=2), 3)

    outputs = [model(frames) for model in (whole, kept)]
    for output in outputs:
        loss_terms(output, torch.tensor([0, 1, 2]), rec_weight=1.0).backward()

    torch.testing.assert_close(outputs[1].logits, outputs[0].logits, rtol=0, atol=1e-10)
    for a, b in zip(kept.parameters(), whole.parameters(), strict=True):
        if b.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", TRUNKS)
@pytest.mark.parametrize("fusion", ["joint", "figure"])
def test_logits_of_a_clip_do_not_depend_on_its_batch_mates(kind: str, fusion: str) -> None:
    model = pruning_model(kind, fusion=fusion).float()
    rgb: list[Tensor | None] = [clip.float() for clip in random_clips(4, 3, seed=1)]
    event: list[Tensor | None] = [clip.float() for clip in event_clips(4, 3, seed=2)]
    rgb[1], event[2] = None, None

    def frames(clips: slice) -> dict[str, Frames]:
        made = {"rgb": frames_of(rgb[clips], 3), "event": frames_of(event[clips], 3)}
        return {name: Frames(f.images.float(), f.index) for name, f in made.items()}

    with torch.no_grad():
        together = model(frames(slice(0, 4))).logits
        alone = [model(frames(slice(i, i + 1))).logits[0] for i in range(4)]

    torch.testing.assert_close(together, torch.stack(alone), rtol=0, atol=1e-5)


def test_pictures_that_clips_share_count_as_if_each_had_its_own() -> None:
    model = pruning_model()
    still, event = random_clips(1, 2, seed=1)[0], event_clips(2, 3, seed=2)
    shared = Frames(still, torch.tensor([[0, 1, 1], [1, 0, 1]]))
    own = frames_of([still[row] for row in shared.index], 3)
    events = frames_of(event, 3)

    with torch.no_grad():
        logits = [model({"rgb": rgb, "event": events}).logits for rgb in (shared, own)]

    torch.testing.assert_close(logits[0], logits[1], rtol=0, atol=1e-12)
    assert len(own_pictures(shared)[0].images) == 4


def test_clips_of_one_frame_have_no_changes_and_are_classified() -> None:
    event = event_clips(2, 1, seed=2)
    frames = {"rgb": frames_of(random_clips(2, 1, seed=1), 1), "event": frames_of(event, 1)}

    with torch.no_grad():
        logits = pruning_model()(frames).logits

    hands = [kept_by_hand(e, e[:0], ground=1.0, count=4) for e in event]
    assert bool(logits.isfinite().all())
    assert (
        kept_of(event=frames["event"], diff=Frames(event[0][:0], torch.zeros(2, 0).long())) == hands
    )


def test_what_is_left_out_is_not_looked_at() -> None:
    model = pruning_model(keep_tokens=0.25)
    event = drawn({0: -0.5, 1: -0.5, 2: -0.5, 3: -0.5}, ground=1.0)
    event = frames_of([event.expand(2, -1, -1, -1)], 2)
    rgb = random_clips(1, 1, seed=1)[0].expand(2, -1, -1, -1).clone().requires_grad_()

    model({"rgb": Frames(rgb, torch.tensor([[0, 1]])), "event": event}).logits.sum().backward()

    gradient = rgb.grad.abs().sum(dim=(0, 1))
    assert bool((gradient[:SIDE] > 0).all())
    assert not bool(gradient[SIDE:].any())


@pytest.mark.parametrize("fusion", ["joint", "figure"])
def test_gradients_reach_every_adapter(fusion: str) -> None:
    model = pruning_model(fusion=fusion, keep_tokens=0.25).float().train()
    frames = {
        "rgb": frames_of(random_clips(2, 3, seed=1), 3),
        "event": frames_of(event_clips(2, 3, seed=2), 3),
    }
    frames = {name: Frames(f.images.float(), f.index) for name, f in frames.items()}

    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(frames)
    loss_terms(output, torch.tensor([0, 1]), rec_weight=1.0).backward()

    adapters = {name: p for name, p in model.named_parameters() if ".lora_" in name}
    assert adapters
    assert all(bool(p.grad.isfinite().all() and p.grad.any()) for p in adapters.values())


@pytest.mark.parametrize("value", [0.0, -0.1, 1.5])
def test_a_share_out_of_range_is_refused_by_name(value: float) -> None:
    with pytest.raises(EventKitError, match=r"\$\.model\.keep_tokens"):
        load_settings("default", {"model.keep_tokens": value})


def test_shares_of_patches_are_rounded_up_and_never_to_none() -> None:
    assert [num_kept(share, 25) for share in (1.0, 0.5, 0.28, 0.01, 1e-12)] == [25, 13, 7, 1, 1]


def test_the_release_has_no_such_thing() -> None:
    settings = parse_settings({"model": {"mode": "compat", "keep_tokens": 0.5}}, where="test")

    with pytest.raises(SettingsError, match=r"compat.*model\.keep_tokens = 0\.5"):
        build_compat(settings, num_classes=3)


def test_a_graph_is_refused_and_adapters_say_what_they_were_trained_with(tmp_path: Path) -> None:
    model = pruning_model().float()

    with pytest.raises(SettingsError, match=r"model\.keep_tokens = 0\.5.*peft"):
        DenseVELoRA(model, frames=3)
    export(model, tmp_path / "out", to="peft", frames=3, description={"backbone": "vit_tiny"})

    assert json.loads((tmp_path / "out" / "velora.json").read_bytes())["keep_tokens"] == 0.5


def low_flops(model: VELoRA, frames: dict[str, Frames]) -> int:
    for block in model.trunk.low:
        block.attn.fused_attn = False  # the counter does not know the fused one of a CPU
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(frames)
    counts = counter.get_flop_counts()
    low = [f"VELoRA.trunk.vit.blocks.{i}" for i in range(len(model.trunk.low))]
    return sum(sum(counts[name].values()) for name in low)


def test_half_of_the_patches_cost_half_in_the_low_blocks() -> None:
    frames = {
        "rgb": frames_of(random_clips(2, 2, seed=1), 2),
        "event": frames_of(event_clips(2, 2, seed=2), 2),
    }

    whole, half = (
        low_flops(wake(make_model(backbone_kwargs={"patch_size": 4}, keep_tokens=share)), frames)
        for share in (1.0, 0.5)
    )

    # 33 of 65 tokens, one of which is CLS; of attention it is the square of that.
    assert 0.4 < half / whole < 33 / 65
