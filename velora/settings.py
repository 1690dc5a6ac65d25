"""What a run is made of: five tables of settings with their defaults.

How a run is executed (device, threads, processes, folder) is no setting: it changes no result.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

PositiveInt = Annotated[int, Meta(ge=1)]
NotNegativeInt = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0.0, lt=1.0)]
SomeOrAll = Annotated[float, Meta(gt=0.0, le=1.0)]
Positive = Annotated[float, Meta(gt=0.0, lt=1e9)]
NotNegative = Annotated[float, Meta(ge=0.0, lt=1e9)]


class ModelSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The trunk and how the streams meet in it."""

    #: "paper" is the method as described; "compat" computes what the authors' release computes.
    mode: Literal["paper", "compat"] = "paper"
    #: "joint": the high blocks take all streams' tokens; "figure": a fusion block beside them.
    fusion: Literal["joint", "figure"] = "joint"
    #: "fusion" learns from both senses; "rgb" and "event" build single-sense models.
    streams: Literal["fusion", "rgb", "event"] = "fusion"
    #: Senses whose changes make the difference stream; "both" are those of ``streams``.
    difference: Literal["both", "rgb", "event", "none"] = "both"
    #: How the frames of a stream become one set of tokens; "attention" is learned.
    temporal: Literal["mean", "attention"] = "mean"
    #: "lora" trains adapters; "full" the trunk itself; "probe" the head alone.
    tuning: Literal["lora", "full", "probe"] = "lora"
    #: "separate" gives each stream a copy of the low blocks (another model only if they train).
    trunks: Literal["shared", "separate"] = "shared"
    #: A timm name of a plain ViT.
    backbone: str = "vit_base_patch16_clip_quickgelu_224.openai"
    #: Passed on to ``timm.create_model``.
    backbone_kwargs: dict[str, bool | int | float | str] = {}
    #: A local safetensors file; without it timm's pretrained weights are used.
    weights: str | None = None
    #: Draw the trunk from ``train.seed`` instead.
    random_trunk: bool = False
    #: Pixels; the trunk's own when not given.
    img_size: PositiveInt | None = None
    #: Blocks at the end of the trunk that see all streams together.
    high_blocks: PositiveInt = 2
    #: Weight of the reconstruction loss; 0 leaves its block out.
    rec_weight: NotNegative = 1.0
    head_dropout: Share = 0.0
    #: Share of the patches of a clip that are looked at: those with most events and change.
    keep_tokens: SomeOrAll = 1.0

    @property
    def senses(self) -> tuple[str, ...]:
        """The senses that the model looks at."""
        return ("rgb", "event") if self.streams == "fusion" else (self.streams,)

    @property
    def moving(self) -> tuple[str, ...]:
        """The senses whose changes make the difference stream."""
        if self.difference == "none":
            return ()
        return self.senses if self.difference == "both" else (self.difference,)

    def __post_init__(self) -> None:
        if self.weights is not None and self.random_trunk:
            msg = "weights and random_trunk exclude each other: choose one trunk"
            raise ValueError(msg)
        if self.streams != "fusion" and self.difference not in ("both", "none", self.streams):
            msg = (
                f"streams = {self.streams!r} looks at no {self.difference}: difference is "
                f"'both' (of what it looks at), {self.streams!r} or 'none'"
            )
            raise ValueError(msg)
        if self.fusion == "figure" and self.tuning != "lora":
            msg = (
                f"fusion = 'figure' brings the fused tokens to the output by adapters alone, and "
                f"tuning = {self.tuning!r} has none: set fusion = 'joint', or tuning = 'lora'"
            )
            raise ValueError(msg)
        if self.trunks == "separate" and self.tuning != "full":
            msg = (
                "trunks = 'separate' needs tuning = 'full': over a frozen trunk every stream has "
                "adapters of its own, and its own copy of the trunk would compute the same"
            )
            raise ValueError(msg)
        if self.fusion == "figure" and self.streams != "fusion":
            msg = "fusion = 'figure' joins RGB and events: streams must be 'fusion'"
            raise ValueError(msg)


class LoraSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The adapters."""

    rank: PositiveInt = 4
    alpha: Positive = 8.0
    dropout: Share = 0.01
    #: Last names of the linear layers that get an adapter in every block, or "ffn": one around
    #: the whole feed-forward, as the figure draws it.
    targets: Annotated[tuple[str, ...], Meta(min_length=1)] = ("fc1", "fc2")
    #: Blocks at the start of the trunk that get no adapters: no backward pass goes through them.
    skip_blocks: NotNegativeInt = 0
    #: Modality-shared adapters in the blocks that see all streams.
    shared: bool = True
    #: False is LoRA-FA: A stays as it was drawn.
    train_a: bool = True

    def __post_init__(self) -> None:
        if "ffn" in self.targets and {"fc1", "fc2"} & set(self.targets):
            msg = "targets: 'ffn' goes around fc1 and fc2; choose one of the two"
            raise ValueError(msg)


class CompatSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The faults of the release that ``mode = "compat"`` can mend, and its text tower."""

    #: "batch": the last block attends across the clips of the batch, as released.
    attention: Literal["batch", "tokens"] = "batch"
    #: "last10": the head reads the last ten patches, as released; "all": CLS and patch mean.
    readout: Literal["last10", "all"] = "last10"
    #: Build the adapters of the text towers, which nothing uses, as released.
    text_towers: bool = True


class DataSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is seen of a clip, and augmentation: the same for RGB, events and differences."""

    #: Frames of a clip, evenly spaced; all when not given.
    frames: PositiveInt | None = None
    #: How event frames become pictures, as "counts,cap=8"; "auto" goes by what the shards hold.
    event_input: str = "auto"
    #: "device" takes differences of the augmented pictures, "stored" reads them from the shards.
    diff: Literal["device", "stored"] = "device"
    #: Largest shift of a training clip, as a share of the picture's side.
    shift: Annotated[float, Meta(ge=0.0, le=0.5)] = 0.045
    #: Mirror half of the training clips. Wrong for digits, letters and cards.
    flip: bool = False
    #: Crop a training clip to at least 1 - crop of its side, and resize it back.
    crop: Share = 0.0
    #: Largest rotation of a training clip, in degrees, either way.
    rotate: Annotated[float, Meta(ge=0.0, le=180.0)] = 0.0
    #: Largest shear of a training clip: columns for each row.
    shear: Share = 0.0
    #: Largest displacement, as a share of the side, of a 4x4 lattice that bends a training clip.
    warp: Annotated[float, Meta(ge=0.0, le=0.1)] = 0.0
    #: Largest change of brightness and contrast of a training clip's RGB, as a share.
    color: Share = 0.0
    #: Share of the training clips of both senses that are shown without one of them, either alike.
    drop_sense: Share = 0.0
    #: "balanced" draws every class equally often.
    sampling: Literal["natural", "balanced"] = "natural"


class TrainSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The optimisation."""

    epochs: PositiveInt = 30
    #: Clips of an update, over all processes and accumulated parts.
    batch_size: PositiveInt = 16
    #: Parts of a batch that are computed one after the other, to need less memory.
    accumulate: PositiveInt = 1
    #: Highest learning rate of AdamW, after the warm-up and before the cosine.
    lr: Positive = 1e-3
    #: Of the head; ``lr`` when not given.
    head_lr: Positive | None = None
    weight_decay: NotNegative = 1e-4
    warmup_epochs: NotNegative = 1.0
    #: Largest norm of the gradient; 0 clips nothing.
    grad_clip: NotNegative = 1.0
    label_smoothing: Share = 0.0
    #: Beta(mixup, mixup) shares of two clips, the same for both senses; 0 is off.
    mixup: NotNegative = 0.0
    #: Decay of a moving average of what trains, which is then evaluated and kept; 0 is off.
    ema: Share = 0.0
    #: Epochs without a better val before training stops; 0 never stops early.
    patience: NotNegativeInt = 0
    #: "balanced" weighs the loss of a clip by the inverse frequency of its class.
    class_weights: Literal["none", "balanced"] = "none"
    #: "auto" is bf16 on CUDA, fp32 elsewhere.
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that decides the outcome of a training run, besides the data."""

    model: ModelSettings = ModelSettings()
    lora: LoraSettings = LoraSettings()
    compat: CompatSettings = CompatSettings()
    data: DataSettings = DataSettings()
    train: TrainSettings = TrainSettings()
