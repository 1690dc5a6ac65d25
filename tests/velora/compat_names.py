"""The modules of the release by their names and shapes, tiny; nothing is ever called."""

from __future__ import annotations

from collections import OrderedDict

import torch
from test_compat_model import CLASSES
from torch import nn

WIDTH, DEPTH, TOKENS, SPACE = 24, 3, 17, 512


class ClipBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, 1)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            OrderedDict(c_fc=nn.Linear(width, 4 * width), c_proj=nn.Linear(4 * width, width))
        )
        self.ln_2 = nn.LayerNorm(width)


class ClipTransformer(nn.Module):
    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.resblocks = nn.Sequential(*(ClipBlock(width) for _ in range(layers)))


class ClipVisual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTH, 8, stride=8, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(WIDTH))
        self.positional_embedding = nn.Parameter(torch.zeros(TOKENS, WIDTH))
        self.ln_pre, self.ln_post = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.transformer = ClipTransformer(WIDTH, DEPTH)
        self.proj = nn.Parameter(torch.zeros(WIDTH, SPACE))


class Clip(nn.Module):
    """CLIP ViT-B/16, with a tiny visual tower."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = ClipVisual()
        self.transformer = ClipTransformer(512, 12)
        self.token_embedding = nn.Embedding(49408, 512)
        self.positional_embedding = nn.Parameter(torch.zeros(77, 512))
        self.ln_final = nn.LayerNorm(512)
        self.text_projection = nn.Parameter(torch.zeros(512, SPACE))
        self.logit_scale = nn.Parameter(torch.zeros(()))


def vit_block(name: str) -> dict[str, tuple[int, ...]]:
    d = WIDTH
    weights = {
        "norm1": (d,), "norm2": (d,), "attn.qkv": (3 * d, d), "attn.proj": (d, d),
        "mlp.fc1": (4 * d, d), "mlp.fc2": (d, 4 * d),
    }  # fmt: skip
    return linears({f"{name}.{part}": shape for part, shape in weights.items()})


def linears(weights: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    both = {}
    for name, shape in weights.items():
        both |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return both


HEAD_SHAPES: dict[str, tuple[int, ...]] = {
    **vit_block("blocks.0"),
    **vit_block("fuse_blocks.0"),
    **linears({"norm": (WIDTH,), "visual_embed": (WIDTH, SPACE), "word_embed": (WIDTH, SPACE)}),
    **linears({f"self_attention.{n}": (WIDTH, WIDTH) for n in ("query", "key", "value")}),
    **{f"cross_model.{n}.weight": (WIDTH, WIDTH) for n in ("query", "key", "value")},
    **linears({f"weight_layer.{i}": (1, WIDTH) for i in range(CLASSES)}),
    **linears({f"remain_weight_layer.{i}": (1, WIDTH) for i in range(TOKENS)}),
    **linears({"bn": (CLASSES,), "fc1": (CLASSES, 10 * WIDTH)}),
    "bn.running_mean": (CLASSES,),
    "bn.running_var": (CLASSES,),
    "bn.num_batches_tracked": (),
    **{f"{n}_embed": (1, 1, WIDTH) for n in ("rgb", "event", "frame", "tex")},
    "CLS_token": (1, 10, WIDTH),
}
