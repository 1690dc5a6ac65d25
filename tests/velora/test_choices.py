"""The choices of ModelSettings and LoraSettings compute and train what they say."""

from __future__ import annotations

import copy

import msgspec
import pytest
import torch
from model_helpers import (
    ALPHA,
    RANK,
    SIZE,
    WIDTH,
    frames_of,
    make_model,
    merged,
    random_clips,
    wake,
)
from torch import Tensor
from torch.nn import functional as F

from eventkit.errors import SettingsError
from velora.config import parse_settings
from velora.frames.frames import FramePooling, Frames, difference_frames
from velora.model.classifier import kept_parameters
from velora.model.paper import VELoRA
from velora.settings import ModelSettings
from velora.training.parameters import parameter_table

CLIPS = {"rgb": random_clips(2, 3, seed=1), "event": random_clips(2, 3, seed=2)}
BATCH = {name: frames_of(clips, 3) for name, clips in CLIPS.items()}


def low_features(model: VELoRA, clip: int) -> list[Tensor]:
    """(1, N, D) of RGB, event and difference, one picture at a time."""
    rgb, event = CLIPS["rgb"][clip], CLIPS["event"][clip]
    difference = ((rgb[1:] - rgb[:-1]).abs() + (event[1:] - event[:-1]).abs()) / 2
    features = []
    for s, pictures in enumerate((rgb, event, difference)):
        total = torch.zeros((), dtype=torch.float64)
        for picture in pictures:
            x = model.trunk.embed(picture[None])
            for block in model.trunk.low:
                x = merged(block, s)(x)
            total = total + x
        features.append(total / len(pictures) + model.stream_embed[s])
    return features


def test_the_figure_adds_a_low_rank_term_of_the_fused_tokens_after_each_high_block() -> None:
    model = wake(make_model(fusion="figure", depth=4, num_high=2))

    expected = []
    for clip in range(2):
        features = low_features(model, clip)
        fused = merged(model.fusion.block, 0)(torch.cat(features, dim=1)).chunk(3, dim=1)
        pooled = []
        for sense in range(2):
            y = features[sense]
            for block, branch in zip(model.trunk.high, model.fusion.branches, strict=True):
                code = fused[sense] @ branch.lora_a[sense].T
                y = block(y) + ALPHA / RANK * code @ branch.lora_b[sense].T
            y = model.trunk.final_norm(y)
            pooled += [y[:, 0], y[:, 1:].mean(dim=1)]
        expected.append(model.head(torch.cat(pooled, dim=1))[0])

    torch.testing.assert_close(model(BATCH).logits, torch.stack(expected), rtol=0, atol=1e-10)


@pytest.mark.parametrize("shared", [True, False])
def test_the_figure_hands_on_what_the_difference_stream_says(shared: bool) -> None:
    model = wake(make_model(fusion="figure", lora={"shared": shared}))
    difference = difference_frames(list(BATCH.values()))
    still = Frames(torch.zeros_like(difference.images), difference.index)

    moved = model({**BATCH, "diff": difference}).logits
    without = model({**BATCH, "diff": still}).logits

    assert float((moved - without).abs().max().detach()) > 1e-4


def test_the_figure_is_the_trunk_on_each_sense_at_the_start() -> None:
    model = make_model(fusion="figure")

    logits = model(BATCH).logits

    pooled = []
    for sense in ("rgb", "event"):
        x = model.trunk.embed(CLIPS[sense][0])
        x = plain(model, x, low=True)
        y = model.trunk.final_norm(plain(model, x.mean(dim=0, keepdim=True), low=False))
        pooled += [y[:, 0], y[:, 1:].mean(dim=1)]
    expected = model.head(torch.cat(pooled, dim=1))[0]
    torch.testing.assert_close(logits[0], expected, rtol=0, atol=1e-10)


def plain(model: VELoRA, x: Tensor, *, low: bool) -> Tensor:
    """Through blocks as the trunk came, without adapters."""
    for block in model.trunk.low if low else model.trunk.high:
        x = merged(block, 0)(x)
    return x


def test_ffn_goes_around_the_whole_feed_forward() -> None:
    model = wake(make_model("event", lora={"targets": ("ffn",)}, difference="none"))

    features = model._low([BATCH["event"]])

    x = model.trunk.embed(CLIPS["event"][0])
    for block in model.trunk.low:
        x = x + block.attn(block.norm1(x))
        inner = block.norm2(x)
        around = block.mlp
        term = ALPHA / RANK * inner @ around.lora_a[0].T @ around.lora_b[0].T
        x = x + around.base(inner) + term
    expected = x.mean(dim=0) + model.stream_embed[0]
    torch.testing.assert_close(features[0, 0], expected, rtol=0, atol=1e-10)
    trains = sum(row.trainable for row in parameter_table(model) if "low" in row.part)
    assert trains == 2 * 2 * RANK * WIDTH


def test_frame_pooling_weighs_frames_by_the_softmax_of_their_scores() -> None:
    pool = FramePooling(WIDTH).double()
    rows = torch.randn(5, 4, WIDTH, dtype=torch.float64)
    index = torch.tensor([[0, 0, 1], [4, 2, 3], [-1, -1, -1]])

    start = pool(rows, index)
    pool.query.data.normal_()
    made = pool(rows, index)

    torch.testing.assert_close(start[0], (2 * rows[0] + rows[1]) / 3)
    scores = [F.layer_norm(rows[i].mean(dim=0), (WIDTH,)) @ pool.query for i in (4, 2, 3)]
    shares = torch.stack(scores).softmax(dim=0)
    expected = shares[0] * rows[4] + shares[1] * rows[2] + shares[2] * rows[3]
    torch.testing.assert_close(made[1], expected, rtol=0, atol=1e-12)
    assert bool((made[2] == 0).all())
    assert torch.autograd.gradcheck(lambda q: _pooled(pool, q, rows, index), (pool.query,))


def _pooled(pool: FramePooling, query: Tensor, rows: Tensor, index: Tensor) -> Tensor:
    return torch.func.functional_call(pool, {"query": query}, (rows, index))


@pytest.mark.parametrize(
    ("difference", "moving"),
    [("both", ("rgb", "event")), ("rgb", ("rgb",)), ("event", ("event",)), ("none", ())],
)
def test_the_difference_stream_is_made_of_the_senses_it_names(
    difference: str, moving: tuple[str, ...]
) -> None:
    model = wake(make_model(difference=difference))

    streams = model._stream_frames(BATCH)

    assert model.streams == ("rgb", "event", *(("diff",) if moving else ()))
    if moving:
        expected = difference_frames([BATCH[name] for name in moving])
        assert torch.equal(streams[2].images, expected.images)
    assert model.head.in_features == len(model.streams) * 2 * WIDTH
    assert bool(model(BATCH).logits.isfinite().all())


def test_differences_that_come_with_the_batch_are_taken_as_they_are() -> None:
    model = wake(make_model())
    given = frames_of(random_clips(2, 2, seed=9), 2)
    made = difference_frames([BATCH["rgb"], BATCH["event"]])

    assert torch.equal(model(BATCH | {"diff": made}).logits, model(BATCH).logits)
    assert not torch.allclose(model(BATCH | {"diff": given}).logits, model(BATCH).logits)


TRAINS = {
    "lora": ({}, {}, {"low", "high", "reconstruction", "stream", "head"}),
    "probe": ({"tuning": "probe"}, {}, {"head"}),
    "full": ({"tuning": "full"}, {}, {"trunk", "stream", "head"}),
    "separate": ({"tuning": "full", "trunks": "separate"}, {}, {"trunk", "stream", "head"}),
    "no shared": ({}, {"shared": False}, {"low", "reconstruction", "stream", "head"}),
    "no reconstruction": ({"rec_weight": 0.0}, {}, {"low", "high", "stream", "head"}),
    "temporal": (
        {"temporal": "attention"},
        {},
        {"low", "high", "reconstruction", "stream", "frame", "head"},
    ),
    "figure": ({"fusion": "figure"}, {}, {"low", "fusion", "reconstruction", "stream", "head"}),
    "figure, no shared": (
        {"fusion": "figure"},
        {"shared": False},
        {"low", "fusion", "reconstruction", "stream", "head"},
    ),
}


@pytest.mark.parametrize("name", TRAINS)
def test_what_trains_is_what_the_settings_say_and_the_table_counts_it_once(name: str) -> None:
    settings, lora, parts = TRAINS[name]
    model = make_model(lora=lora, **settings)

    rows = parameter_table(model)

    training = {row.part.split()[0] for row in rows[:-1] if row.trainable}
    assert training == parts
    assert rows[-1].total == sum(p.numel() for p in model.parameters())
    assert rows[-1].trainable == sum(p.numel() for p in model.parameters() if p.requires_grad)
    output = wake(model).train()(BATCH)
    loss = output.logits.square().sum() + (0 if output.rec_loss is None else output.rec_loss)
    loss.backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


def test_full_tuning_trains_every_tensor_of_the_trunk_and_a_probe_only_the_head() -> None:
    full, probe = make_model(tuning="full"), make_model(tuning="probe")

    assert all(p.requires_grad for p in full.trunk.parameters())
    assert set(kept_parameters(probe)) == {"head.weight", "head.bias"}
    assert full.rec is not None
    assert probe.rec is None


def test_lora_fa_trains_b_alone_and_keeps_the_drawn_a() -> None:
    model = wake(make_model(lora={"train_a": False})).train()

    model(BATCH).logits.sum().backward()

    halves = {n: p for n, p in kept_parameters(model).items() if ".lora_" in n}
    assert {n.rsplit("_", 1)[-1] for n, p in halves.items() if p.grad is not None} == {"b"}
    assert {n.rsplit("_", 1)[-1] for n in halves} == {"a", "b"}


@pytest.mark.parametrize("checkpointing", [False, True])
def test_skipped_blocks_have_no_adapters_and_no_backward_pass(*, checkpointing: bool) -> None:
    model = wake(make_model(depth=4, lora={"skip_blocks": 2})).train()
    model.checkpointing = checkpointing
    tracked = {}
    for i, block in enumerate(model.trunk.vit.blocks):
        block.register_forward_hook(lambda _, __, x, i=i: tracked.update({i: x.requires_grad}))

    output = model(BATCH)
    (output.logits.square().sum() + output.rec_loss).backward()

    in_blocks = [n for n in kept_parameters(model) if n.startswith("trunk.vit.blocks.")]
    assert {name.split(".")[3] for name in in_blocks} == {"2", "3"}
    assert tracked == {0: False, 1: False, 2: True, 3: True}
    assert all(p.grad is not None for p in kept_parameters(model).values())


def test_a_stream_keeps_adapters_of_its_own() -> None:
    with pytest.raises(SettingsError, match=r"less than 2, the number of blocks .* got 2"):
        make_model(depth=3, num_high=1, lora={"skip_blocks": 2})
    probe = make_model(depth=3, tuning="probe", lora={"skip_blocks": 2})
    assert set(kept_parameters(probe)) == {"head.weight", "head.bias"}


def test_trunks_of_their_own_start_as_the_shared_one_and_part_ways() -> None:
    shared = make_model(tuning="full")
    separate = make_model(tuning="full", trunks="separate")
    separate.head.load_state_dict(shared.head.state_dict())

    torch.testing.assert_close(separate(BATCH).logits, shared(BATCH).logits, rtol=0, atol=1e-10)
    separate.train()(BATCH).logits.square().sum().backward()
    first, second = separate.trunk.vit.blocks[0], separate.towers[0].vit.blocks[0]
    assert not torch.equal(first.mlp.fc1.weight.grad, second.mlp.fc1.weight.grad)


@pytest.mark.parametrize("settings", [{"fusion": "figure"}, {"temporal": "attention"}])
def test_a_clip_does_not_depend_on_its_batch_mates(settings: dict[str, object]) -> None:
    model = wake(make_model(**settings)).float()
    rgb = [CLIPS["rgb"][0], None, CLIPS["rgb"][1]]
    event = [CLIPS["event"][0], CLIPS["event"][1], None]
    together = model(floats(rgb, event)).logits

    alone = [model(floats([r], [e])).logits[0] for r, e in zip(rgb, event, strict=True)]

    torch.testing.assert_close(together, torch.stack(alone), rtol=0, atol=1e-5)


def floats(rgb: list[Tensor | None], event: list[Tensor | None]) -> dict[str, Frames]:
    made = {"rgb": frames_of(rgb, 3), "event": frames_of(event, 3)}
    return {name: Frames(f.images.float(), f.index) for name, f in made.items()}


TRUNKS = {
    "clip": ("vit_base_patch16_clip_224", {}),
    "dinov2": ("vit_small_patch14_reg4_dinov2", {"patch_size": 16}),
    "dinov3": ("vit_small_patch16_dinov3", {}),
    "siglip": ("vit_base_patch16_siglip_224", {}),
    "eva02": ("eva02_tiny_patch14_224", {"patch_size": 16}),
    "eva02 with q, k, v and gate apart": ("eva02_base_patch14_224", {"patch_size": 16}),
    "tiny": ("vit_tiny_patch16_224", {}),
}


def test_a_layer_that_two_targets_name_gets_one_adapter() -> None:
    backbone, kwargs = TRUNKS["eva02 with q, k, v and gate apart"]
    targets = ("qkv", "q_proj", "fc1", "fc1_g", "fc1")

    model = make_model(backbone=backbone, backbone_kwargs=kwargs, lora={"targets": targets})

    names = [name for name, _ in model.named_parameters() if name.endswith("lora_a")]
    assert not [name for name in names if ".base." in name]


@pytest.mark.parametrize("fusion", ["joint", "figure"])
@pytest.mark.parametrize("name", TRUNKS)
def test_every_family_of_trunks_learns_with_either_fusion(name: str, fusion: str) -> None:
    backbone, kwargs = TRUNKS[name]
    lora = {"targets": ("fc1", "fc2", "qkv")}
    model = make_model(backbone=backbone, backbone_kwargs=kwargs, fusion=fusion, lora=lora)
    frames = {**BATCH, "rgb": frames_of([CLIPS["rgb"][0], None], 3)}

    output = wake(model).train()(frames)
    (output.logits.square().sum() + output.rec_loss).backward()

    grads = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    assert [n for n, g in grads.items() if g is None or not bool(g.isfinite().all())] == []
    assert [n for n, g in grads.items() if not bool(g.any())] == []


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ({"trunks": "separate"}, "needs tuning = 'full'"),
        ({"fusion": "figure", "streams": "rgb"}, "streams must be 'fusion'"),
        ({"fusion": "figure", "tuning": "full"}, "by adapters alone"),
        ({"fusion": "figure", "tuning": "probe"}, "by adapters alone"),
        ({"streams": "rgb", "difference": "event"}, "looks at no event"),
    ],
)
def test_choices_that_contradict_each_other_are_refused(
    model: dict[str, object], reason: str
) -> None:
    with pytest.raises(msgspec.ValidationError, match=reason):
        msgspec.convert(model, ModelSettings)
    with pytest.raises(Exception, match=reason):
        parse_settings({"model": model}, where="here")


def test_ffn_and_its_layers_exclude_each_other() -> None:
    with pytest.raises(Exception, match="'ffn' goes around fc1 and fc2"):
        parse_settings({"lora": {"targets": ["ffn", "fc1"]}}, where="here")


def test_the_picture_size_is_the_one_of_the_trunk() -> None:
    assert make_model().image_size_hw == (SIZE, SIZE)
    assert copy.deepcopy(make_model()).image_size_hw == (SIZE, SIZE)
