"""model.keep_tokens: a clip's blank patches are left out, of all its frames and streams alike."""

from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from model_helpers import frames_of, make_model, merged, random_clips, wake
from test_inputs import PAINTED, events, stored
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from eventkit import Events
from eventkit.errors import EventKitError, SettingsError
from velora.compat import build_compat
from velora.config import load_settings, parse_settings
from velora.files.export import export
from velora.files.merge import DenseVELoRA
from velora.frames.frames import Frames
from velora.inputs import resolve
from velora.model.paper import VELoRA
from velora.model.pruning import num_kept, own_pictures, prune
from velora.training.losses import loss_terms

GRID, SIDE = 4, 8  # patches of 32 x 32 pixels
TRUNKS = {
    "vit": {"backbone": "vit_tiny_patch16_224"},
    "dinov3": {"backbone": "vit_small_patch16_dinov3"},  # registers and rotary positions
    "eva02": {"backbone": "eva02_tiny_patch14_224", "lora": {"targets": ("fc2",)}},
}


def pruning_model(kind: str = "vit", *, keep_tokens: float = 0.5, **options: Any) -> VELoRA:
    made = {**TRUNKS[kind], **options}
    return wake(make_model(backbone_kwargs={"patch_size": SIDE}, keep_tokens=keep_tokens, **made))


def event_clips(num_clips: int, num_frames: int, *, seed: int, ground: float = 1.0) -> list[Tensor]:
    """Clips with ink in a few patches, of other strength in each."""
    generator = torch.Generator().manual_seed(seed)
    clips = torch.full((num_clips, num_frames, 3, 32, 32), ground, dtype=torch.float64)
    for clip, frame in itertools.product(range(num_clips), range(num_frames)):
        for _ in range(4):
            row, column = torch.randint(0, 29, (2,), generator=generator).tolist()
            color = torch.rand(3, 1, 1, generator=generator, dtype=torch.float64)
            clips[clip, frame, :, row : row + 3, column : column + 3] = color
    return list(clips)


def patch(picture: Tensor, position: int) -> Tensor:
    row, column = divmod(position, GRID)
    return picture[:, SIDE * row : SIDE * (row + 1), SIDE * column : SIDE * (column + 1)]


def differences(*clips: Tensor) -> Tensor:
    return sum((clip[1:] - clip[:-1]).abs() for clip in clips) / len(clips)


def kept_by_hand(event: Tensor, difference: Tensor, *, ground: float, count: int) -> list[int]:
    ink = []
    for position in range(GRID * GRID):
        of_events = sum(float((patch(p, position) - ground).abs().mean()) for p in event)
        ink.append(of_events + sum(float(patch(p, position).mean()) for p in difference))
    return sorted(sorted(range(len(ink)), key=lambda i: (-round(ink[i], 5), i))[:count])


def by_the_loop(
    model: VELoRA, rgb: Tensor, event: Tensor, *, ground: float, count: int
) -> tuple[Tensor, Tensor]:
    """Logits and reconstruction loss of one clip, one picture at a time."""
    trunk, prefix = model.trunk, model.trunk.num_prefix
    difference = differences(rgb, event)
    kept = kept_by_hand(event, difference, ground=ground, count=count)
    rope = None
    if trunk.takes_rope:
        rope = trunk.vit.rope.get_embed(shape=trunk.vit.patch_embed.grid_size)[kept]

    def run(block: torch.nn.Module, x: Tensor, group: int, streams: int = 1) -> Tensor:
        extra = {} if rope is None else {"rope": rope.repeat(streams, 1)}
        return merged(block, group)(x, **extra)

    features = []
    for s, pictures in enumerate((rgb, event, difference)):
        total = torch.zeros((), dtype=torch.float64)
        for picture in pictures:
            x = trunk.embed(picture[None])
            x = torch.stack([x[:, i] for i in (*range(prefix), *(prefix + p for p in kept))], dim=1)
            for block in trunk.low:
                x = run(block, x, s)
            total = total + x
        features.append(total / len(pictures) + model.stream_embed[s])
    x = torch.cat([f[:, :prefix] for f in features] + [f[:, prefix:] for f in features], dim=1)
    for block in trunk.high:
        x = run(block, x, 0, streams=3)
    x = trunk.final_norm(x)
    pooled = []
    for s in range(3):
        own = x[:, 3 * prefix + s * count : 3 * prefix + (s + 1) * count]
        pooled += [x[:, s * prefix], own.mean(dim=1)]
    norm = lambda x: torch.nn.functional.layer_norm(x, x.shape[-1:])  # noqa: E731
    loss = sum(
        (norm(run(model.rec, features[a], 0)) - norm(features[b])).square().mean()
        for a, b in ((0, 1), (1, 0))
    )
    return model.head(torch.cat(pooled, dim=1))[0], loss


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


def kept_of(share: float = 0.25, **streams: Frames) -> list[list[int]]:
    return prune(streams, share=share, grid_hw=(GRID, GRID)).clips.tolist()


def drawn(positions: dict[int, float], *, ground: float) -> Tensor:
    """One picture with a stroke of some strength in each of these patches."""
    picture = torch.full((1, 3, 32, 32), ground, dtype=torch.float64)
    for position, strength in positions.items():
        patch(picture[0], position)[:, 2:4] += strength
    return picture


def test_patches_with_most_ink_are_kept_and_of_equal_ones_the_first() -> None:
    signed = drawn({11: 0.3, 2: -0.3, 7: -0.1, 14: 0.2, 1: 0.05}, ground=0.5)
    blank = drawn({}, ground=1.0)
    equal = drawn(dict.fromkeys((15, 3, 9, 12, 4, 8), -0.4), ground=1.0)

    kept = kept_of(event=frames_of([signed, blank, equal], 1))

    assert kept == [[2, 7, 11, 14], [0, 1, 2, 3], [3, 4, 8, 9]]


def test_events_and_changes_count_together() -> None:
    event = torch.cat([drawn({3: -0.6}, ground=1.0), drawn({8: -0.2}, ground=1.0)])
    change = drawn({5: 0.7, 8: 0.3}, ground=0.0)

    kept = kept_of(0.2, event=frames_of([event], 2), diff=frames_of([change], 1))

    assert kept == [[0, 3, 5, 8]]
    assert kept_of(0.125, event=frames_of([event], 2), diff=frames_of([change], 1)) == [[3, 5]]


def test_a_clip_without_events_goes_by_its_changes_and_a_still_one_by_its_texture() -> None:
    rgb = drawn({6: 0.5, 13: 0.2}, ground=0.2)
    still, change = drawn({}, ground=0.0), drawn({9: 0.1, 10: 0.4}, ground=0.0)
    streams = {
        "rgb": frames_of([rgb, rgb], 1),
        "event": frames_of([None, None], 1),
        "diff": frames_of([change, still], 1),
    }

    assert kept_of(0.125, **streams) == [[9, 10], [6, 13]]
    assert kept_of(0.125, rgb=streams["rgb"]) == [[6, 13], [6, 13]]


@pytest.mark.parametrize("spec", PAINTED)
def test_blank_is_the_ground_of_every_input(spec: str) -> None:
    full, frames = stored(spec, events(60))
    chosen = resolve("auto", full)
    pictures = chosen.paint(torch.from_numpy(frames))
    _, nothing = stored(spec, Events.empty())
    blank = chosen.paint(torch.from_numpy(nothing))

    own, empty = (Frames(p, torch.arange(len(p))[None]) for p in (pictures, blank))

    ink = (pictures - chosen.ground).abs().mean(dim=1).sum(dim=0).flatten()
    seen = prune({"event": own}, share=0.3, grid_hw=pictures.shape[-2:]).clips[0]
    order = sorted(range(len(ink)), key=lambda i: (-round(float(ink[i]), 5), i))
    assert seen.tolist() == sorted(order[: len(seen)])
    seen = prune({"event": empty}, share=0.3, grid_hw=pictures.shape[-2:]).clips[0]
    assert seen.tolist() == list(range(len(seen)))


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
