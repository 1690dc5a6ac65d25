"""A slow twin of the released computation: image by image, from tensors by the release's names.

It shares no code with `velora.compat`; only plain operations of torch on float64. Attention takes
(sequence, batch, width), as CLIP's does, so that the release's fault is the release's call.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

HEAD = "model_state_dict"
RGB, EVENT, FRAME = (
    "ViT_model_state_dict",
    "Event_ViT_model_state_dict",
    "frame_ViT_model_state_dict",
)
VISUAL = "base_model.model.visual."


@dataclass(frozen=True)
class Twin:
    """The checkpoint and the sizes that its shapes do not tell."""

    checkpoint: dict[str, dict[str, Tensor]]
    num_heads: int
    depth: int
    scale: float
    attention: str
    readout: str

    def __call__(self, rgb: Tensor, event: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, 3, H, W) pictures in [0, 1] -> log probabilities (B, C), reconstruction loss."""
        head = self.checkpoint[HEAD]
        z = {RGB: [], EVENT: [], FRAME: []}
        for clip_rgb, clip_event in zip(rgb, event, strict=True):
            x, e = ([(image - 0.5) / 0.5 for image in clip] for clip in (clip_rgb, clip_event))
            moved = [(x[t - 1] - x[t]).abs() + (e[t - 1] - e[t]).abs() for t in range(1, len(x))]
            for tower, images in ((RGB, x), (EVENT, e), (FRAME, moved)):
                total = sum(self.encode(tower, image) for image in images)
                z[tower].append(linear(total / len(images), head, "visual_embed"))
        zr = torch.stack(z[RGB]) + head["rgb_embed"]
        ze = torch.stack(z[EVENT]) + head["event_embed"]
        zd = torch.stack(z[FRAME]) + head["frame_embed"]

        from_rgb, from_event = (
            torch.stack([norm(self.vit_block("blocks.0", c), head, "norm", 1e-6) for c in clips])
            for clips in (zr, ze)
        )
        rec_loss = ((from_event - zr) ** 2).mean() + ((from_rgb - ze) ** 2).mean()

        n = zr.shape[1]
        fused = torch.stack(
            [self.vit_block("fuse_blocks.0", torch.cat(c)) for c in zip(zd, zr, ze, strict=True)]
        )
        ur, ue = fused[:, n : 2 * n], fused[:, 2 * n :]
        yr = self.again(RGB, zr) + ur + self.side(RGB, ur)
        ye = self.again(EVENT, ze) + ue + self.side(EVENT, ue)

        logits = []
        for clip in torch.cat([yr, ye], dim=1):
            q, k, v = (linear(clip, head, f"self_attention.{w}") for w in ("query", "key", "value"))
            s = (q @ k.T / q.shape[-1] ** 0.5).softmax(-1) @ v
            h = s[:n] + s[n:]
            if self.readout == "last10":
                read = torch.cat([h[i] for i in range(n - 10, n)])
            else:
                read = torch.cat([h[0], h[1:].mean(0)])
            logits.append(linear(read, head, "fc1"))
        return torch.stack(logits).log_softmax(-1), rec_loss

    def encode(self, tower: str, image: Tensor) -> Tensor:
        """(3, H, W) -> (N, p): every token after ln_post and the projection."""
        own = self.checkpoint[tower]
        kernel = own[f"{VISUAL}conv1.weight"]
        side = kernel.shape[-1]
        rows = []
        for top in range(0, image.shape[1], side):
            for left in range(0, image.shape[2], side):
                patch = image[:, top : top + side, left : left + side]
                rows.append((kernel * patch).sum((1, 2, 3)))
        x = torch.stack([own[f"{VISUAL}class_embedding"], *rows])
        x = norm(x + own[f"{VISUAL}positional_embedding"], own, f"{VISUAL}ln_pre", 1e-5)
        x = x[:, None]
        for i in range(self.depth):
            x = self.clip_block(tower, i, x)
        return norm(x[:, 0], own, f"{VISUAL}ln_post", 1e-5) @ own[f"{VISUAL}proj"]

    def clip_block(self, tower: str, i: int, x: Tensor) -> Tensor:
        """(sequence, batch, D) -> the same."""
        own, name = self.checkpoint[tower], f"{VISUAL}transformer.resblocks.{i}"
        y = norm(x, own, f"{name}.ln_1", 1e-5)
        mixed = attention(
            y, own[f"{name}.attn.in_proj_weight"], own[f"{name}.attn.in_proj_bias"], self.num_heads
        )
        x = x + linear(mixed, own, f"{name}.attn.out_proj")
        y = self.adapted(tower, f"{name}.mlp.c_fc", norm(x, own, f"{name}.ln_2", 1e-5))
        return x + self.adapted(tower, f"{name}.mlp.c_proj", quick_gelu(y))

    def adapted(self, tower: str, name: str, x: Tensor) -> Tensor:
        own = self.checkpoint[tower]
        return linear(x, own, f"{name}.base_layer") + self.scale * self.low_rank(tower, name, x)

    def low_rank(self, tower: str, name: str, x: Tensor) -> Tensor:
        own = self.checkpoint[tower]
        code = x @ own[f"{name}.lora_A.default.weight"].T
        return code @ own[f"{name}.lora_B.default.weight"].T

    def again(self, tower: str, z: Tensor) -> Tensor:
        """The last block of a tower, handed (B, N, D) as it is, or as it should be."""
        if self.attention == "batch":
            return self.clip_block(tower, self.depth - 1, z)
        return self.clip_block(tower, self.depth - 1, z.transpose(0, 1)).transpose(0, 1)

    def side(self, tower: str, u: Tensor) -> Tensor:
        mlp = f"{VISUAL}transformer.resblocks.{self.depth - 1}.mlp"
        return self.low_rank(
            tower, f"{mlp}.c_proj", quick_gelu(self.low_rank(tower, f"{mlp}.c_fc", u))
        )

    def vit_block(self, name: str, x: Tensor) -> Tensor:
        """(N, D) -> (N, D): a block of ViT-B with erf GELU."""
        own = self.checkpoint[HEAD]
        y = norm(x, own, f"{name}.norm1", 1e-6)[:, None]
        mixed = attention(
            y, own[f"{name}.attn.qkv.weight"], own[f"{name}.attn.qkv.bias"], self.num_heads
        )
        x = x + linear(mixed[:, 0], own, f"{name}.attn.proj")
        y = linear(norm(x, own, f"{name}.norm2", 1e-6), own, f"{name}.mlp.fc1")
        return x + linear(0.5 * y * (1 + torch.erf(y / 2**0.5)), own, f"{name}.mlp.fc2")


def linear(x: Tensor, own: dict[str, Tensor], name: str) -> Tensor:
    return x @ own[f"{name}.weight"].T + own[f"{name}.bias"]


def norm(x: Tensor, own: dict[str, Tensor], name: str, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    variance = (centred**2).mean(-1, keepdim=True)
    return centred / (variance + eps).sqrt() * own[f"{name}.weight"] + own[f"{name}.bias"]


def quick_gelu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-1.702 * x))


def attention(x: Tensor, weight: Tensor, bias: Tensor, num_heads: int) -> Tensor:
    """(sequence, batch, D): over the sequence, apart for each of the batch and each head."""
    q, k, v = (x @ weight.T + bias).chunk(3, dim=-1)
    size = q.shape[-1] // num_heads
    out = []
    for h in range(num_heads):
        part = slice(h * size, (h + 1) * size)
        scores = torch.einsum("lbd,mbd->blm", q[..., part], k[..., part]) / size**0.5
        out.append(torch.einsum("blm,mbd->lbd", scores.softmax(-1), v[..., part]))
    return torch.cat(out, dim=-1)
