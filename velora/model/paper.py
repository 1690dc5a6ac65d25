"""VELoRA, ``mode = "paper"``: the method as figure and abstract describe it.

One frozen ViT serves all streams. Its low blocks run once over the images of every stream, each
stream with low-rank terms of its own; the frames of a stream become one set of tokens, and the
streams meet in the high blocks; a linear head reads the pooled streams. A frozen copy of the last
block, with an adapter of its own, learns to reconstruct each sense from the other while training.

    B clips, T frames, S streams, U distinct images, M rows (images of all streams)
    N tokens (P prefix + patches), K kept patches, D width, C classes, H, W
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eventkit.errors import SettingsError
from velora.frames.frames import FramePooling, Frames, difference_frames, frame_mean, is_present
from velora.model.classifier import Classifier, Output, logits_of
from velora.model.fusion import FigureFusion, JointFusion
from velora.model.lora import Adapter, GroupedLowRank, RowGroups, add_lora
from velora.model.pruning import prune
from velora.model.trunk import Trunk, low_half, twin
from velora.settings import LoraSettings, ModelSettings


class VELoRA(Classifier):
    """The classifier.

    Parameters
    ----------
    trunk : Trunk
        Frozen, unless ``settings.tuning`` is "full"; adapters are put into its blocks.
    num_classes : int
    settings : ModelSettings
        The trunk's are looked at no more.
    lora : LoraSettings
    """

    def __init__(
        self, trunk: Trunk, *, num_classes: int, settings: ModelSettings, lora: LoraSettings
    ) -> None:
        super().__init__()
        self.senses = settings.senses
        self.moving = settings.moving
        self.streams = (*self.senses, *(("diff",) if self.moving else ()))
        self.num_classes = num_classes
        self.keep_tokens = settings.keep_tokens
        self.row_groups = RowGroups()
        self.tunes_trunk = settings.tuning == "full"
        adapter = None
        if settings.tuning == "lora":
            check_skipped(lora.skip_blocks, num_low=len(trunk.low))
            adapter = Adapter(lora.rank, lora.alpha, lora.dropout, lora.train_a)

        trunk.requires_grad_(self.tunes_trunk)
        self.trunk = trunk
        # Copies come before the adapters, so that they are of the trunk and no more.
        self.towers = nn.ModuleList(
            low_half(trunk, shared=False) for _ in self.streams[1:] if settings.trunks == "separate"
        )
        self.rec: nn.Module | None = None
        if settings.rec_weight > 0 and len(self.senses) == 2 and settings.tuning != "probe":
            self.rec = twin(trunk.high[-1], shared=not self.tunes_trunk)
        self.fusion = self._make_fusion(settings, lora, adapter)
        if adapter is not None:
            num_streams = len(self.streams)
            add_lora(
                trunk.low[lora.skip_blocks :],
                targets=lora.targets,
                num_groups=num_streams,
                adapter=adapter,
                groups=self.row_groups,
            )
            if self.rec is not None:
                add_lora([self.rec], targets=lora.targets, num_groups=1, adapter=adapter)
        self._make_head(settings)

    def _make_fusion(
        self, settings: ModelSettings, lora: LoraSettings, adapter: Adapter | None
    ) -> JointFusion | FigureFusion:
        shared = adapter if lora.shared else None
        if settings.fusion == "joint":
            return JointFusion(
                self.trunk, streams=self.streams, adapter=shared, targets=lora.targets
            )
        assert adapter is not None  # the settings refuse the figure without adapters
        return FigureFusion(
            self.trunk, streams=self.streams, adapter=adapter, shared=shared, targets=lora.targets
        )

    def _make_head(self, settings: ModelSettings) -> None:
        width, num_streams = self.trunk.width, len(self.streams)
        self.stream_embed = nn.Parameter(torch.zeros(num_streams, width))
        self.stream_embed.requires_grad_(settings.tuning != "probe")
        self.frame_pooling: nn.ModuleList | None = None
        if settings.temporal == "attention":
            self.frame_pooling = nn.ModuleList(FramePooling(width) for _ in self.streams)
            self.frame_pooling.requires_grad_(settings.tuning != "probe")
        self.pools = 2 if self.trunk.has_cls else 1
        self.head_dropout = nn.Dropout(settings.head_dropout)
        self.head = nn.Linear(len(self.fusion.out_streams) * self.pools * width, self.num_classes)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    @property
    def image_size_hw(self) -> tuple[int, int]:
        """Height and width of the pictures in pixels."""
        return self.trunk.image_size_hw

    def train(self, mode: bool = True) -> VELoRA:  # noqa: FBT001, FBT002 - the signature of torch
        """Set the mode of what trains; the frozen trunk always computes as in evaluation."""
        for module in self.modules():
            module.training = False
        adapters = [m.dropout for m in self.modules() if isinstance(m, GroupedLowRank)]
        for module in (self, self.head_dropout, *adapters):
            module.training = mode
        return self

    def forward(self, frames: dict[str, Frames]) -> Output:
        """Classify clips.

        Parameters
        ----------
        frames : {"rgb": Frames, "event": Frames}
            Pictures at the trunk's size; a single-sense model looks at its own sense only. A sense
            that a clip lacks is masked. A clip must have at least one of the model's senses.
            "diff" gives the difference pictures, which are made of the others without it.
        """
        streams = self._stream_frames(frames)
        present = torch.stack([is_present(f.index) for f in streams], dim=1)  # (B, S)
        if not bool(present.any(dim=1).all()):
            msg = f"a clip of the batch has none of the senses {self.senses}"
            raise ValueError(msg)
        kept = of_pictures = None
        if self.keep_tokens < 1:
            grid_hw = self.trunk.vit.patch_embed.grid_size
            named = dict(zip(self.streams, streams, strict=True))
            streams, kept, of_pictures = prune(named, share=self.keep_tokens, grid_hw=grid_hw)
        features = self._low(streams, of_pictures)
        fused = self.fusion(self.trunk, features, present, kept=kept, recompute=self.checkpointing)
        shown = [self.streams.index(name) for name in self.fusion.out_streams]
        pooled = self._pool(self.trunk.final_norm(fused), present[:, shown])
        logits = logits_of(self.head, self.head_dropout(pooled))
        if not self.training or self.rec is None:
            return Output(logits)
        both = present[:, :2].all(dim=1).nonzero().squeeze(1).to(features.device)
        if not len(both):
            return Output(logits)
        twice = None if kept is None else kept[both].repeat(2, 1)
        rec_loss = self._reconstruction_loss(self.rec, features[both], kept=twice)
        return Output(logits, rec_loss, rec_clips=len(both))

    def _stream_frames(self, frames: dict[str, Frames]) -> list[Frames]:
        streams = [frames[name] for name in self.senses]
        if self.moving:
            stored = frames.get("diff")
            streams.append(
                difference_frames([frames[name] for name in self.moving])
                if stored is None
                else stored
            )
        return streams

    def _low(self, streams: list[Frames], kept: Sequence[Tensor] | None = None) -> Tensor:
        """Run the low blocks over the images of all streams -> (B, S, N, D).

        ``kept`` (U, K) are the patches of each stream's images that are looked at.
        """
        if self.towers:
            towers = [self.trunk, *self.towers]
            each = [None] * len(streams) if kept is None else kept
            rows = [
                self._run_low(tower, f.images, [len(f.images)], kept=k)
                for tower, f, k in zip(towers, streams, each, strict=True)
            ]
        else:
            sizes = [len(f.images) for f in streams]
            pictures = torch.cat([f.images for f in streams])
            together = None if kept is None else torch.cat(list(kept))
            x = self._run_low(self.trunk, pictures, sizes, kept=together)
            rows = list(torch.split(x, sizes))
        pools = self.frame_pooling or [frame_mean] * len(streams)
        means = [pool(x, f.index) for pool, x, f in zip(pools, rows, streams, strict=True)]
        return torch.stack(means, dim=1) + self.stream_embed[:, None]

    def _run_low(
        self, trunk: Trunk, pictures: Tensor, sizes: list[int], *, kept: Tensor | None
    ) -> Tensor:
        # Nothing before the first adapter trains; a saliency asks for the gradient of the pictures.
        wanted = self.tunes_trunk or pictures.requires_grad
        with torch.set_grad_enabled(torch.is_grad_enabled() and wanted):
            x = trunk.embed(pictures, kept=kept)
        contexts = self.row_groups.for_checkpoint if self.checkpointing else None
        with self.row_groups(sizes, like=pictures):
            return trunk.run(trunk.low, x, kept=kept, contexts=contexts)

    def _pool(self, x: Tensor, present: Tensor) -> Tensor:
        """[CLS if there is one, mean of patches] of each stream, zero for absent streams."""
        pooled = [x[:, :, self.trunk.num_prefix :].mean(dim=2)]
        if self.trunk.has_cls:
            pooled.insert(0, x[:, :, 0])
        return (torch.cat(pooled, dim=-1) * present[..., None].to(x)).flatten(1)

    def _reconstruction_loss(
        self, rec: nn.Module, features: Tensor, *, kept: Tensor | None = None
    ) -> Tensor:
        rgb, event = features[:, 0], features[:, 1]
        rebuilt = self.trunk.run([rec], torch.cat([event, rgb]), kept=kept)
        targets = torch.cat([rgb, event]).detach()
        # Each direction is a mean over as many numbers, so their sum is twice the joint mean.
        return 2 * F.mse_loss(_plain_norm(rebuilt), _plain_norm(targets))

    def parts(self, name: str, count: int) -> list[tuple[str, int]]:
        """Say which parts of the model the ``count`` numbers of a parameter belong to."""
        if name.startswith("head."):
            return [("head", count)]
        if name == "stream_embed":
            return [("stream embeddings", count)]
        if name.startswith("frame_pooling."):
            return [("frame pooling", count)]
        if ".lora_" not in name:
            return [("trunk", count)]
        if name.startswith("rec."):
            return [("reconstruction LoRA", count)]
        if name.startswith("fusion.branches."):
            return [(f"fusion LoRA ({sense})", count // 2) for sense in self.senses]
        if name.startswith("fusion."):
            return [("fusion LoRA (shared)", count)]
        layer = self.get_submodule(name.rpartition(".")[0])
        assert isinstance(layer, GroupedLowRank)
        if layer.groups is None:
            return [("high blocks LoRA (shared)", count)]
        share = count // len(self.streams)
        return [(f"low blocks LoRA ({stream})", share) for stream in self.streams]

    def compile_blocks(self) -> None:
        """Let ``torch.compile`` make the blocks of the trunk faster, in place."""
        for block in (*self.trunk.low, *self.trunk.high):
            block.compile(dynamic=True)


def check_skipped(skip_blocks: int, *, num_low: int) -> None:
    """Refuse to leave a stream without adapters of its own."""
    if skip_blocks >= num_low:
        msg = (
            f"lora.skip_blocks must be less than {num_low}, the number of blocks that each stream "
            f"passes by itself, got {skip_blocks}"
        )
        raise SettingsError(msg)


def _plain_norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:])
