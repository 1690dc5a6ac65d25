"""``mode = "compat"``: what the authors' release computes, its faults included.

B clips, T frames, U distinct images, N tokens, D width, p width of CLIP's space, C classes
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eventkit.errors import SettingsError
from velora.compat.towers import STREAMS, SelfAttention, TextAdapters, Towers
from velora.frames.frames import Frames, difference_frames, frame_mean, is_present
from velora.model.backbone import timm
from velora.model.classifier import Classifier, Output, logits_of
from velora.model.lora import Adapter
from velora.model.trunk import Trunk
from velora.settings import CompatSettings

# Tokens that the released head reads: where a predecessor of the method had put learned tokens.
LAST = 10
# The release normalises pictures by these, not by CLIP's mean and standard deviation.
MEAN = STD = 0.5


class CompatVELoRA(Classifier):
    """The released model.

    Parameters
    ----------
    trunk : Trunk
        Of a CLIP ViT; frozen, adapters are put into its blocks.
    projection : (D, p) Tensor
        CLIP's own, frozen.
    num_classes : int
    adapter : Adapter
        Of every adapter.
    compat : CompatSettings
        Which faults of the release are mended.
    reconstruct : bool
        Compute the reconstruction loss in training; its block is there in any case.
    drop_path : float
        Stochastic depth of the reconstruction and the fusion block in training.
    """

    # Its forward pass has no way to leave a sense out.
    needs_all_senses = True

    def __init__(
        self,
        trunk: Trunk,
        projection: Tensor,
        *,
        num_classes: int,
        adapter: Adapter,
        compat: CompatSettings,
        reconstruct: bool = True,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.streams = STREAMS
        self.senses = self.moving = STREAMS[:2]
        self.num_classes = num_classes
        self.compat = compat
        self.reconstruct = reconstruct
        width, space = projection.shape
        num_tokens = trunk.num_prefix + trunk.vit.patch_embed.num_patches
        if num_tokens < LAST:
            msg = f"mode = 'compat' reads the last {LAST} tokens, this trunk has {num_tokens}"
            raise SettingsError(msg)

        self.towers = Towers(trunk, projection, adapter=adapter)
        self.text = TextAdapters(rank=adapter.rank) if compat.text_towers else None
        self.visual_embed = nn.Linear(space, width)
        self.stream_embed = nn.Parameter(torch.zeros(len(STREAMS), width))
        num_heads = trunk.vit.blocks[0].attn.num_heads
        self.rec = _vit_block(width, num_heads, drop_path=drop_path)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.fuse = _vit_block(width, num_heads, drop_path=drop_path)
        self.self_attention = SelfAttention(width)
        tokens_read = LAST if compat.readout == "last10" else 2
        self.head = nn.Linear(tokens_read * width, num_classes)
        self.unused = _unused(width, space, num_tokens=num_tokens, num_classes=num_classes)

    @property
    def image_size_hw(self) -> tuple[int, int]:
        """Height and width of the pictures in pixels."""
        return self.towers.trunk.image_size_hw

    def forward(self, frames: dict[str, Frames]) -> Output:
        """Classify clips.

        Parameters
        ----------
        frames : {"rgb": Frames, "event": Frames}
            Pictures at the trunk's size, two frames at least, both senses of every clip. "diff"
            gives the difference pictures, which are made of the others without it.

        Raises
        ------
        SettingsError
            If a clip lacks a sense or has a single frame.
        """
        z = self._features(_normalised(frames))
        mixed = self._fused(z)
        y = (
            self.towers.last_block(z[:2], attention=self.compat.attention)
            + mixed
            + self.towers.side_branch(mixed)
        )
        halves = self.self_attention(torch.cat([y[0], y[1]], dim=1)).chunk(2, dim=1)
        logits = F.log_softmax(logits_of(self.head, self._read(halves[0] + halves[1])), dim=1)
        if not (self.training and self.reconstruct):
            return Output(logits)
        return Output(logits, self._reconstruction_loss(z[:2]), rec_clips=z.shape[1])

    def _features(self, streams: list[Frames]) -> Tensor:
        """Frames to z, (3, B, N, D)."""
        sizes = [len(f.images) for f in streams]
        images = torch.cat([f.images for f in streams])
        tokens = torch.split(self.towers(images, sizes, recompute=self.checkpointing), sizes)
        means = [frame_mean(x, f.index) for x, f in zip(tokens, streams, strict=True)]
        embedded: Tensor = self.visual_embed(torch.stack(means))
        return embedded + self.stream_embed[:, None, None]

    def _fused(self, z: Tensor) -> Tensor:
        """U of RGB and events, (2, B, N, D); that of the differences is dropped, as released."""
        rgb, event, moved = z
        fused = self.fuse(torch.cat([moved, rgb, event], dim=1)).chunk(3, dim=1)
        return torch.stack(fused[1:])

    def _read(self, x: Tensor) -> Tensor:
        if self.compat.readout == "last10":
            return x[:, -LAST:].flatten(1)
        return torch.cat([x[:, 0], x[:, 1:].mean(dim=1)], dim=1)

    def _reconstruction_loss(self, z: Tensor) -> Tensor:
        rebuilt = self.norm(self.rec(z.flatten(0, 1))).unflatten(0, (2, -1))
        # Targets are not detached, as released. Each direction is a mean over as many numbers, so
        # that their sum is twice the joint mean.
        return 2 * F.mse_loss(rebuilt, z.flip(0))

    def parts(self, name: str, count: int) -> list[tuple[str, int]]:
        """Say which parts of the model the ``count`` numbers of a parameter belong to."""
        if name.startswith("towers.") and ".lora_" in name:
            return [(f"visual LoRA ({stream})", count // len(STREAMS)) for stream in STREAMS]
        if name.startswith("unused."):
            return [(f"unused: {name.split('.')[1]}", count)]
        return [(_PARTS[name.split(".")[0]], count)]

    def compile_blocks(self) -> None:
        """Let ``torch.compile`` make the blocks faster, in place."""
        for block in (*self.towers.trunk.vit.blocks, self.rec, self.fuse):
            block.compile(dynamic=True)


_PARTS = {
    "towers": "trunk",
    "text": "text LoRA (no gradient)",
    "visual_embed": "visual embedding",
    "stream_embed": "stream embeddings",
    "rec": "reconstruction block",
    "norm": "reconstruction norm",
    "fuse": "fusion block",
    "self_attention": "self-attention",
    "head": "head",
}


def _normalised(frames: dict[str, Frames]) -> list[Frames]:
    """Frames of the three streams as the towers see them."""
    senses = [frames[name] for name in STREAMS[:2]]
    present = torch.stack([is_present(f.index) for f in senses])
    if not bool(present.all()):
        missing = int((~present.all(dim=0)).sum())
        msg = (
            f"{missing} of {present.shape[1]} clips of this batch lack a sense, which the released "
            "model cannot leave out; train mode = 'paper', or shards whose clips have both"
        )
        raise SettingsError(msg)
    if senses[0].index.shape[1] < 2:
        msg = "mode = 'compat' needs two frames of a clip for a difference, got one: more bins"
        raise SettingsError(msg)
    stored = frames.get("diff")
    moved = difference_frames(senses) if stored is None else stored
    scaled = [Frames((f.images - MEAN) / STD, f.index) for f in senses]
    # The release adds the differences of both senses, of normalised pictures, and leaves the sum
    # (0 to 4) as it is; `moved` is their mean in [0, 1].
    return [*scaled, Frames(moved.images * (len(senses) / STD), moved.index)]


def _vit_block(width: int, num_heads: int, *, drop_path: float) -> nn.Module:
    """Make a block as drawn at random; the release loads no weights into it."""
    block = timm.models.vision_transformer.Block(
        width,
        num_heads,
        qkv_bias=True,
        drop_path=drop_path,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
    )
    for module in block.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    return block


def _unused(width: int, space: int, *, num_tokens: int, num_classes: int) -> nn.Module:
    """What the release registers and never calls."""
    parts = nn.Module()
    parts.word_embed = nn.Linear(space, width)
    parts.cross_model = nn.ModuleDict(
        {name: nn.Linear(width, width, bias=False) for name in ("query", "key", "value")}
    )
    parts.weight_layer = nn.ModuleList(nn.Linear(width, 1) for _ in range(num_classes))
    parts.remain_weight_layer = nn.ModuleList(nn.Linear(width, 1) for _ in range(num_tokens))
    parts.bn = nn.BatchNorm1d(num_classes)
    parts.CLS_token = nn.Parameter(torch.zeros(1, LAST, width))
    parts.tex_embed = nn.Parameter(torch.zeros(1, 1, width))
    return parts
