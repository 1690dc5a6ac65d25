"""A trained VELoRA as one plain module: adapters added to the weights, every picture in its place.

Training needs adapters, masks for absent senses and an index of distinct images. Who only runs the
model on whole clips needs none of it: here every stream has low blocks of its own, with its
adapters merged, and nothing branches on data, which is what ``torch.export`` and ONNX take.

    B clips, T frames, S streams, N tokens (P prefix + patches), D width, C classes, H, W
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eventkit.errors import SettingsError
from velora.model.classifier import Classifier
from velora.model.fusion import FigureFusion, join_tokens, split_tokens
from velora.model.lora import GroupedLoRA, GroupedLowRank
from velora.model.paper import VELoRA
from velora.model.trunk import Trunk, join_prefixes, low_half


class DenseVELoRA(nn.Module):
    """Logits of clips that have all senses of the model.

    Parameters
    ----------
    model : VELoRA
        What it computes in evaluation is computed here. What nothing is merged into is shared with
        it, not copied.
    frames : int
        T of every clip. With 1 there is no difference stream.
    stored_differences : bool
        Take the difference pictures, (B, T - 1, 3, H, W), as a last input instead of making them.

    Raises
    ------
    SettingsError
        If it is no VELoRA of ``mode = "paper"``, or looks at a share of the patches only.
    """

    def __init__(self, model: Classifier, *, frames: int, stored_differences: bool = False) -> None:
        super().__init__()
        if not isinstance(model, VELoRA):
            msg = f"only models of mode = 'paper' can be merged, this is a {type(model).__name__}"
            raise SettingsError(msg)
        if model.keep_tokens < 1:
            msg = (
                f"model.keep_tokens = {model.keep_tokens:g} looks at other patches in every clip, "
                "which a merged model cannot; export to peft, or train with keep_tokens = 1"
            )
            raise SettingsError(msg)
        self.streams = tuple(s for s in model.streams if s != "diff" or frames > 1)
        stored = stored_differences and "diff" in self.streams
        self.inputs = (*model.senses, "diff") if stored else model.senses
        self.moving = () if stored or "diff" not in self.streams else model.moving
        self.frames = frames
        self.image_size_hw = model.image_size_hw
        self.num_prefix = model.trunk.num_prefix
        self.has_cls = model.trunk.has_cls

        towers = [model.trunk, *model.towers] if model.towers else [model.trunk] * 3
        halves = {
            stream: _low_half(tower, group)
            for group, (stream, tower) in enumerate(zip(model.streams, towers, strict=False))
            if stream in self.streams
        }
        self.low = nn.ModuleDict(halves)
        together = len(self.streams)
        self.fusion: nn.ModuleDict | None = None
        if isinstance(model.fusion, FigureFusion):
            self.fusion = _fusion_block(model.fusion, together)
        # Beside a fusion block each sense runs through the high blocks alone.
        self.high = _high_half(model.trunk, num_streams=1 if self.fusion else together)
        self.stream_embed = _by_stream(model.streams, model.stream_embed)
        self.frame_pooling: nn.ParameterDict | None = None
        if model.frame_pooling is not None:
            queries = [pooling.query for pooling in model.frame_pooling]
            self.frame_pooling = _by_stream(model.streams, queries)
        self.head = copy.deepcopy(model.head)
        self.eval().requires_grad_(requires_grad=False)

    def forward(self, *pictures: Tensor) -> Tensor:
        """Map one (B, T, 3, H, W) tensor per input, float in [0, 1], to (B, C) logits."""
        given = dict(zip(self.inputs, pictures, strict=True))
        if self.moving:
            changes = [(given[s][:, 1:] - given[s][:, :-1]).abs() for s in self.moving]
            given["diff"] = torch.stack(changes).sum(dim=0) / len(changes)
        features = torch.stack([self._tokens(s, given[s]) for s in self.streams], dim=1)
        blocks = list(self.high["blocks"].values())
        if self.fusion is None:
            fused = self._together(blocks, features)
        else:
            fused = self._beside(self.fusion, blocks, features)
        (norm,) = (part for name, part in self.high.items() if name != "blocks")
        return self.head(self._pool(norm(fused)))

    def _tokens(self, stream: str, pictures: Tensor) -> Tensor:
        """(B, T, 3, H, W) -> (B, N, D)."""
        low = self.low[stream]
        x = low.run(low.low, low.embed(pictures.flatten(0, 1)))
        x = x.unflatten(0, (-1, pictures.shape[1]))
        if self.frame_pooling is None:
            mean = x.mean(dim=1)
        else:
            scores = F.layer_norm(x.mean(dim=2), x.shape[-1:]) @ self.frame_pooling[stream]
            mean = (scores.softmax(dim=1)[..., None, None] * x).sum(dim=1)
        return mean + self.stream_embed[stream]

    def _together(self, blocks: Iterable[nn.Module], features: Tensor) -> Tensor:
        """Blocks over the tokens of all streams at once: (B, S, N, D) -> (B, S, N, D)."""
        num_streams = len(self.streams)
        x = join_tokens(features, self.num_prefix)
        x = self.low["event" if "event" in self.low else "rgb"].run(
            blocks, x, num_streams=num_streams
        )
        return split_tokens(x, num_streams, self.num_prefix)

    def _beside(self, fusion: nn.ModuleDict, blocks: list[nn.Module], features: Tensor) -> Tensor:
        """The figure: (B, S, N, D) -> (B, 2, N, D), RGB and event."""
        fused = self._together([fusion["block"]], features)
        parts = []
        for i, sense in enumerate(("rgb", "event")):
            y = features[:, i]
            for number, block in enumerate(blocks):
                y = self.low[sense].run([block], y)
                if len(fusion[sense]):
                    y = y + fusion[sense][number](fused[:, i])
            parts.append(y)
        return torch.stack(parts, dim=1)

    def _pool(self, x: Tensor) -> Tensor:
        pooled = [x[:, :, self.num_prefix :].mean(dim=2)]
        if self.has_cls:
            pooled.insert(0, x[:, :, 0])
        flat = torch.cat(pooled, dim=-1).flatten(1)
        # A difference stream without frames is the last of the streams, and zero for the head.
        return F.pad(flat, (0, self.head.in_features - flat.shape[1]))

    def named_tensors(self) -> dict[str, Tensor]:
        """All tensors; what belongs to the trunk by its name in timm.

        ``rgb.*`` and ``high.*`` without these prefixes are together the state dict of a timm model
        with the adapters of RGB and the shared ones merged; so are ``event.*`` or ``diff.*`` and
        ``high.*``.

        Raises
        ------
        SettingsError
            If an adapter goes around a whole feed-forward, which no weights can hold.
        """
        if any(isinstance(module, _Beside) for module in self.modules()):
            msg = (
                "lora.targets = ['ffn'] puts an adapter around a whole feed-forward, which cannot "
                "be added to weights; export to onnx or torch, or train with fc1 and fc2"
            )
            raise SettingsError(msg)
        names = {f"low.{stream}.vit.": f"{stream}." for stream in self.streams}
        tensors = {}
        for name, tensor in self.state_dict().items():
            prefix = next((p for p in names if name.startswith(p)), "")
            tensors[names.get(prefix, "") + name.removeprefix(prefix)] = tensor
        return tensors


class _Beside(nn.Module):
    """A layer plus a low-rank term that no weights of its can hold."""

    def __init__(self, base: nn.Module, term: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.term = term

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., in)`` to ``(..., out)``."""
        return self.base(x) + self.term(x)


def merged_layer(layer: GroupedLoRA, group: int) -> nn.Module:
    """Return a plain layer that computes what ``layer`` computes for rows of ``group``."""
    if not isinstance(layer.base, nn.Linear):
        return _Beside(layer.base, _low_rank(layer, group))
    merged = copy.copy(layer.base)
    merged._parameters = dict(layer.base._parameters)
    change = layer.lora_b[group].double() @ layer.lora_a[group].double() * layer.scale
    weight = layer.base.weight
    merged.weight = nn.Parameter((weight.double() + change).to(weight.dtype).detach())
    return merged


def _low_rank(term: GroupedLowRank, group: int) -> nn.Sequential:
    layers = []
    for matrix in (term.lora_a[group] * term.scale, term.lora_b[group]):
        layer = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False)
        layer.weight = nn.Parameter(matrix.detach().clone())
        layers.append(layer)
    return nn.Sequential(*layers)


def _plain(module: nn.Module, group: int) -> nn.Module:
    """Copy a module with the adapters of one group merged; other parameters are shared."""
    plain = copy.deepcopy(module, {id(p): p for p in module.parameters()})
    layers = [(name, m) for name, m in plain.named_modules() if isinstance(m, GroupedLoRA)]
    for name, layer in layers:
        plain.set_submodule(name, merged_layer(layer, group))
    return plain


def _low_half(trunk: Trunk, group: int) -> Trunk:
    plain = _plain(low_half(trunk, shared=True), group)
    assert isinstance(plain, Trunk)
    return plain


def _high_half(trunk: Trunk, *, num_streams: int) -> nn.ModuleDict:
    blocks = {}
    for i, block in enumerate(trunk.high, start=len(trunk.low)):
        blocks[str(i)] = _plain(block, 0)
        join_prefixes(blocks[str(i)], num_streams * trunk.num_prefix)
    norm = "fc_norm" if isinstance(trunk.vit.norm, nn.Identity) else "norm"  # wherever timm has it
    return nn.ModuleDict({"blocks": nn.ModuleDict(blocks), norm: getattr(trunk.vit, norm)})


def _fusion_block(fusion: FigureFusion, num_streams: int) -> nn.ModuleDict:
    block = _plain(fusion.block, 0)
    join_prefixes(block, num_streams * fusion.num_prefix)
    terms = {
        sense: nn.ModuleList(_low_rank(branch, group) for branch in fusion.branches)
        for group, sense in enumerate(fusion.out_streams)
    }
    return nn.ModuleDict({"block": block, **terms})


def _by_stream(streams: Iterable[str], rows: Iterable[Tensor]) -> nn.ParameterDict:
    pairs = zip(streams, rows, strict=True)
    return nn.ParameterDict({stream: nn.Parameter(row.detach().clone()) for stream, row in pairs})
