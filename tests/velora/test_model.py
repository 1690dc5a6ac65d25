"""VELoRA computes what its equations say, clip by clip."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from model_helpers import (
    DEPTH,
    PATCH,
    RANK,
    SIZE,
    WIDTH,
    frames_of,
    make_model,
    merged,
    random_clips,
    wake,
)
from torch import nn
from torch.nn import functional as F
from velora_helpers import TINY

from eventkit.differences import frame_difference
from velora.frames.frames import Frames, difference_frames
from velora.frames.pictures import rgb_pictures
from velora.model.backbone import build_trunk
from velora.model.lora import Adapter, GroupedLoRA
from velora.model.paper import VELoRA
from velora.training.losses import loss_terms
from velora.training.parameters import parameter_table


def by_the_equations(
    model: VELoRA, rgb: torch.Tensor, event: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and reconstruction loss of one clip, one image at a time."""
    trunk, vit = model.trunk, model.trunk.vit
    difference = ((rgb[1:] - rgb[:-1]).abs() + (event[1:] - event[:-1]).abs()) / 2
    features = []
    for s, pictures in enumerate((rgb, event, difference)):
        total = torch.zeros((), dtype=torch.float64)
        for picture in pictures:
            x = (picture[None] - trunk.mean) / trunk.std
            x = vit.norm_pre(vit._pos_embed(vit.patch_embed(x)))
            for block in trunk.low:
                x = merged(block, s)(x)
            total = total + x
        features.append(total / len(pictures) + model.stream_embed[s])
    x = torch.cat(features, dim=1)
    for block in trunk.high:
        x = merged(block, 0)(x)
    streams = trunk.final_norm(x).chunk(3, dim=1)
    pooled = [part for s in streams for part in (s[:, 0], s[:, 1:].mean(dim=1))]
    norm = lambda x: F.layer_norm(x, (WIDTH,))  # noqa: E731
    rec = merged(model.rec, 0)
    f_rgb, f_event = features[0], features[1]
    loss = F.mse_loss(norm(rec(f_event)), norm(f_rgb)) + F.mse_loss(norm(rec(f_rgb)), norm(f_event))
    return model.head(torch.cat(pooled, dim=1))[0], loss


def test_logits_and_reconstruction_loss_are_those_of_the_equations() -> None:
    model = wake(make_model())
    rgb, event = random_clips(2, 3, seed=1), random_clips(2, 3, seed=2)

    output = model.train()({"rgb": frames_of(rgb, 3), "event": frames_of(event, 3)})
    expected = [by_the_equations(model, r, e) for r, e in zip(rgb, event, strict=True)]

    logits, losses = (torch.stack(values) for values in zip(*expected, strict=True))
    torch.testing.assert_close(output.logits, logits, rtol=0, atol=1e-10)
    torch.testing.assert_close(output.rec_loss, losses.mean(), rtol=0, atol=1e-10)


def test_a_new_model_leaves_the_outputs_of_the_trunk_untouched() -> None:
    model = make_model("event")
    trunk = model.trunk
    clip = random_clips(1, 1)[0]
    plain, _ = build_trunk(
        TINY["backbone"],
        num_high=1,
        random_seed=0,
        img_size=SIZE,
        backbone_kwargs={
            "patch_size": PATCH, "depth": DEPTH, "embed_dim": WIDTH, "num_heads": 3,
        },
    )  # fmt: skip
    plain.double()

    with torch.no_grad():
        features = model._low([frames_of([clip], 1), frames_of([None], 1)])
        x = plain.embed(clip)
        expected = plain.run(plain.low, x)

    torch.testing.assert_close(features[:, 0], expected, rtol=0, atol=1e-12)
    assert not any(p.requires_grad for p in trunk.vit.patch_embed.parameters())


def test_the_targets_of_the_reconstruction_get_no_gradient() -> None:
    model = wake(make_model()).train()
    rgb, event = random_clips(1, 2, seed=1), random_clips(1, 2, seed=2)
    features = model._low(
        model._stream_frames({"rgb": frames_of(rgb, 2), "event": frames_of(event, 2)})
    )
    features = features.detach().requires_grad_()

    loss = model._reconstruction_loss(model.rec, features)
    (gradient,) = torch.autograd.grad(loss, features)

    def one_way(source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        source = source.detach().requires_grad_()
        rebuilt = merged(model.rec, 0)(source)
        loss = F.mse_loss(F.layer_norm(rebuilt, (WIDTH,)), F.layer_norm(target, (WIDTH,)))
        return torch.autograd.grad(loss, source)[0]

    rgb_f, event_f = features[:, 0].detach(), features[:, 1].detach()
    torch.testing.assert_close(gradient[:, 0], one_way(rgb_f, event_f))
    torch.testing.assert_close(gradient[:, 1], one_way(event_f, rgb_f))


def test_reconstruction_is_for_training_and_for_clips_with_both_senses() -> None:
    model = wake(make_model())
    rgb, event = random_clips(2, 2, seed=1), random_clips(2, 2, seed=2)
    both = {"rgb": frames_of(rgb, 2), "event": frames_of(event, 2)}
    one = {"rgb": frames_of([rgb[0], None], 2), "event": frames_of(event, 2)}
    none = {"rgb": frames_of([None, None], 2), "event": frames_of(event, 2)}
    first = {"rgb": frames_of(rgb[:1], 2), "event": frames_of(event[:1], 2)}

    assert model.eval()(both).rec_loss is None
    model.train()
    torch.testing.assert_close(model(one).rec_loss, model(first).rec_loss)
    assert model(none).rec_loss is None
    assert make_model("rgb").rec is None
    assert make_model(rec_weight=0.0).rec is None


@pytest.mark.parametrize("backbone", [TINY["backbone"], "vit_small_patch16_dinov3"])
def test_logits_of_a_clip_do_not_depend_on_its_batch_mates(backbone: str) -> None:
    model = wake(make_model(backbone=backbone)).float()
    rgb, event = random_clips(4, 3, seed=1), random_clips(4, 3, seed=2)
    rgb = [clip.float() for clip in rgb]
    event = [clip.float() for clip in event]
    rgb[1], event[2] = None, None
    batch = {"rgb": frames_of(rgb, 3), "event": frames_of(event, 3)}
    batch = {name: Frames(f.images.float(), f.index) for name, f in batch.items()}

    with torch.no_grad():
        together = model(batch).logits
        alone = [
            model(
                {
                    name: Frames(f.images.float(), f.index)
                    for name, f in (
                        ("rgb", frames_of([rgb[i]], 3)),
                        ("event", frames_of([event[i]], 3)),
                    )
                }
            ).logits[0]
            for i in range(4)
        ]

    torch.testing.assert_close(together, torch.stack(alone), rtol=0, atol=1e-5)


@pytest.mark.parametrize("backbone", [TINY["backbone"], "vit_base_patch16_siglip_224"])
def test_half_precision_stays_near_full_precision_and_trains(backbone: str) -> None:
    # CUDA autocasts the same operations; 2e-2 is bf16's 8 bits through three blocks.
    model = wake(make_model(backbone=backbone)).float().train()
    frames = {
        name: Frames(frames_of(random_clips(2, 3, seed), 3).images.float(), index)
        for seed, (name, index) in enumerate(
            (("rgb", torch.arange(6).view(2, 3)), ("event", torch.tensor([[0, 1, 2], [-1] * 3])))
        )
    }

    full = model(frames)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(frames)
    loss_terms(half, torch.tensor([0, 1]), rec_weight=1.0).backward()

    scale = full.logits.abs().max()
    assert half.logits.dtype == torch.float32  # in bf16 classes tie for the first place
    torch.testing.assert_close(half.logits / scale, full.logits / scale, rtol=0, atol=2e-2)
    torch.testing.assert_close(half.rec_loss.float(), full.rec_loss, rtol=2e-2, atol=0)
    trainable = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in trainable)


def test_an_absent_sense_is_left_out_of_attention_and_pooling() -> None:
    model = wake(make_model())
    event = random_clips(1, 3, seed=2)[0]

    with torch.no_grad():
        logits = model({"rgb": frames_of([None], 3), "event": frames_of([event], 3)}).logits[0]
        difference = (event[1:] - event[:-1]).abs() / 2
        features = model._low(
            [frames_of([None], 3), frames_of([event], 3), frames_of([difference], 2)]
        )
        x = features[:, 1:].flatten(1, 2)
        for block in model.trunk.high:
            x = merged(block, 0)(x)
        event_x, diff_x = model.trunk.final_norm(x).chunk(2, dim=1)
        pooled = [p for s in (event_x, diff_x) for p in (s[:, 0], s[:, 1:].mean(dim=1))]
        pooled = [torch.zeros_like(pooled[0])] * 2 + pooled

    torch.testing.assert_close(logits, model.head(torch.cat(pooled, dim=1))[0], rtol=0, atol=1e-10)


def test_repeated_images_may_be_given_once() -> None:
    model = wake(make_model())
    still, event = random_clips(1, 1, seed=1)[0], random_clips(1, 3, seed=2)
    events = frames_of(event, 3)
    repeated = frames_of([still.expand(3, -1, -1, -1)], 3)
    once = Frames(still, torch.zeros(1, 3, dtype=torch.int64))

    with torch.no_grad():
        a, b = (model({"rgb": rgb, "event": events}).logits for rgb in (repeated, once))

    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_one_frame_has_no_difference_and_is_classified_without_it() -> None:
    model = wake(make_model())
    rgb, event = random_clips(2, 1, seed=1), random_clips(2, 1, seed=2)
    frames = {"rgb": frames_of(rgb, 1), "event": frames_of(event, 1)}

    logits = model.train()(frames).logits
    changed = model.head.weight[:, -2 * WIDTH :].detach().clone()
    model.head.weight.data[:, -2 * WIDTH :] += 1

    assert bool(torch.isfinite(logits).all())
    torch.testing.assert_close(model(frames).logits, logits)
    assert changed.shape == (5, 2 * WIDTH)


@pytest.mark.parametrize(("own", "other"), [("rgb", "event"), ("event", "rgb")])
def test_a_single_sense_model_never_looks_at_the_other_sense(own: str, other: str) -> None:
    model = wake(make_model(own))
    a, b, c = (frames_of(random_clips(2, 3, seed=seed), 3) for seed in (1, 2, 3))

    with torch.no_grad():
        first = model({own: a, other: b}).logits
        again = model({own: a, other: c}).logits

    assert model.streams == (own, "diff")
    assert torch.equal(first, again)
    assert model.head.in_features == 2 * 2 * WIDTH


def test_a_clip_with_none_of_the_senses_is_an_error() -> None:
    model = make_model("rgb")

    with pytest.raises(ValueError, match="none of the senses"):
        model({"rgb": frames_of([None, random_clips(1, 2)[0]], 2)})


def test_the_difference_stream_is_the_one_difference_of_eventkit() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 5, 7, 3), dtype=np.uint8)
    pictures = rgb_pictures(torch.from_numpy(images))

    made = difference_frames([Frames(pictures, torch.arange(4)[None])])
    expected = rgb_pictures(torch.from_numpy(frame_difference(images)))

    torch.testing.assert_close(made.images[made.index[0]], expected)


def test_equal_differences_are_made_once_and_a_sense_that_is_absent_adds_nothing() -> None:
    rgb = Frames(torch.rand(3, 3, 4, 4), torch.tensor([[0, 0, 0], [1, 1, 2]]))
    event = Frames(torch.rand(3, 3, 4, 4), torch.tensor([[-1, -1, -1], [0, 1, 2]]))

    made = difference_frames([rgb, event])

    assert len(made.images) == 3
    still, moving = made.images[made.index[0]], made.images[made.index[1]]
    assert bool((still == 0).all())
    torch.testing.assert_close(moving[0], (event.images[1] - event.images[0]).abs() / 2)
    both = (rgb.images[2] - rgb.images[1]).abs() + (event.images[2] - event.images[1]).abs()
    torch.testing.assert_close(moving[1], both / 2)


def test_the_parameter_table_counts_every_tensor_once_head_included() -> None:
    model = make_model()

    rows = {row.part: (row.total, row.trainable) for row in parameter_table(model)}

    per_block = 2 * RANK * (WIDTH + 4 * WIDTH)
    low, head = 2 * per_block, 3 * 2 * WIDTH * 5 + 5
    for stream in ("rgb", "event", "diff"):
        assert rows[f"low blocks LoRA ({stream})"] == (low, low)
    assert rows["high blocks LoRA (shared)"] == (per_block, per_block)
    assert rows["reconstruction LoRA"] == (per_block, per_block)
    assert rows["head"] == (head, head)
    assert rows["trunk"][1] == 0
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert rows["total"] == (sum(p.numel() for p in model.parameters()), trainable)
    assert trainable == 3 * low + 2 * per_block + 3 * WIDTH + head


def test_the_adapters_of_a_clip_vit_b_16_count_as_in_the_release() -> None:
    with torch.device("meta"):
        linears = [nn.Linear(768, 3072), nn.Linear(3072, 768)]
        tower = sum(
            GroupedLoRA(base, num_groups=1, adapter=Adapter(4, 8.0)).lora_a.numel()
            + 4 * base.out_features
            for _ in range(12)
            for base in linears
        )

    assert tower == 368_640
