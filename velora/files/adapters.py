"""The adapters of a model as PEFT keeps them: one folder a stream, for the plain timm model.

    rgb/ event/ diff/   the low blocks, one folder for each stream of the model
    shared/             the blocks that see all streams; with fusion = "figure" the fusion block,
                        as an adapter of the first high block, whose copy it is
    rec/                the block that reconstructs, as an adapter of the last, whose copy it is
      adapter_model.safetensors   base_model.model.<layer>.lora_A.weight (r, in), lora_B (out, r)
      adapter_config.json         every layer by its full name, so that no other one is touched

``PeftModel.from_pretrained(timm_model, folder)`` puts one of them into the timm model of the trunk,
which ``base_model_name_or_path`` names; see `trunk_name`. Equal adapters give equal bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from eventkit.atomic import replaced
from eventkit.errors import DamageError, MissingDataError, SettingsError
from velora.model.classifier import Classifier, kept_parameters
from velora.model.lora import FEED_FORWARD, GroupedLoRA
from velora.model.paper import VELoRA
from velora.settings import Settings

SHARED = "shared"
RECONSTRUCTION = "rec"
MODEL_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"

# What a LoRA of PEFT may be besides a pair of matrices; an adapter here is no more than that.
_PLAIN: dict[str, Any] = {
    "peft_type": "LORA",
    "bias": "none",
    "fan_in_fan_out": False,
    "use_dora": False,
    "use_rslora": False,
    "rank_pattern": {},
    "alpha_pattern": {},
    "modules_to_save": None,
    "lora_bias": False,
}


@dataclass(frozen=True, slots=True)
class StreamAdapter:
    """One pair of matrices: group ``group`` of ``layer``, which stands at ``name`` in timm."""

    name: str
    layer: GroupedLoRA
    group: int

    @property
    def tensors(self) -> dict[str, Tensor]:
        """A (r, in) and B (out, r) under the names that PEFT gives them; views."""
        prefix = f"base_model.model.{self.name}"
        return {
            f"{prefix}.lora_A.weight": self.layer.lora_a[self.group],
            f"{prefix}.lora_B.weight": self.layer.lora_b[self.group],
        }


def holds_adapters(settings: Settings) -> bool:
    """Tell whether a model of these settings has adapters that PEFT can hold."""
    m = settings.model
    return m.mode == "paper" and m.tuning == "lora" and FEED_FORWARD not in settings.lora.targets


def adapter_folders(model: Classifier) -> dict[str, list[StreamAdapter]]:
    """Sort the adapters of a model by the folder they belong to.

    Raises
    ------
    SettingsError
        If the model has none, or some that PEFT cannot hold.
    """
    if not isinstance(model, VELoRA):
        msg = f"PEFT's layout is for mode = 'paper': the adapters of {type(model).__name__} differ"
        raise SettingsError(msg)
    depth, num_high = len(model.trunk.vit.blocks), model.trunk.num_high
    copies = {"rec": f"blocks.{depth - 1}", "fusion.block": f"blocks.{depth - num_high}"}
    folders: dict[str, list[StreamAdapter]] = {}
    for path, layer in model.named_modules():
        if not isinstance(layer, GroupedLoRA):
            continue
        if not isinstance(layer.base, nn.Linear):
            msg = (
                "lora.targets = ['ffn'] puts an adapter around a whole feed-forward, PEFT holds "
                "those of single layers only; use the run itself, or train with fc1 and fc2"
            )
            raise SettingsError(msg)
        place, name = _place(path)
        owners: tuple[str, ...] = (SHARED,)
        if place == "rec":
            owners = (RECONSTRUCTION,)
        elif layer.groups is not None:
            owners = model.streams
        for group, owner in enumerate(owners):
            name_in_timm = f"{copies.get(place, place)}.{name}"
            folders.setdefault(owner, []).append(StreamAdapter(name_in_timm, layer, group))
    if not folders:
        msg = "the run has no adapters: it was trained with another model.tuning than 'lora'"
        raise SettingsError(msg)
    return folders


def _place(path: str) -> tuple[str, str]:
    """Split the path of a layer into that of its block and its name in the block."""
    found = re.fullmatch(r"(?:trunk\.vit\.)?(blocks\.\d+|rec|fusion\.block)\.(.+)", path)
    if found is None:
        msg = f"the adapter at {path} has no place in the timm model, so PEFT cannot hold it"
        raise SettingsError(msg)
    return found[1], found[2]


def needs_separate_bias(model: Classifier) -> bool:
    """Whether PEFT's adapters would stay without effect in the timm model as it comes.

    The attention of timm's Eva reads ``qkv.weight`` past any adapter unless its blocks are told to
    add the bias apart, as those of a run are.
    """
    return any(
        adapter.name.endswith(".attn.qkv") and hasattr(block.attn, "qkv_bias_separate")
        for adapters in adapter_folders(model).values()
        for adapter in adapters
        for block in model.trunk.vit.blocks[:1]
    )


def other_tensors(model: Classifier) -> dict[str, Tensor]:
    """What a run keeps besides these adapters: the head, stream embeddings and the like."""
    held = {id(a.layer) for adapters in adapter_folders(model).values() for a in adapters}
    own = {
        id(p)
        for module in model.modules()
        if id(module) in held
        for p in module.parameters(recurse=False)
    }
    return {
        name: parameter.detach()
        for name, parameter in kept_parameters(model).items()
        if id(parameter) not in own
    }


def trunk_name(backbone: str, kwargs: Mapping[str, Any]) -> str:
    """Return what adapters say they belong to: ``model.backbone``, and what it was made with.

    PEFT puts adapters of a trunk of 6 blocks into timm's model of 12 without a word. So timm's bare
    name stands only for timm's own model.
    """
    given = ", ".join(f"{name}={value!r}" for name, value in sorted(kwargs.items()))
    return f"{backbone}({given})" if given else backbone


def adapter_files(model: Classifier, *, backbone: str) -> dict[str, bytes]:
    """Return the files of all folders, path -> content.

    Parameters
    ----------
    model : Classifier
    backbone : str
        Kept as ``base_model_name_or_path``; see `trunk_name`.
    """
    files = {}
    for folder, adapters in adapter_folders(model).items():
        tensors = {
            name: tensor.detach().cpu().contiguous()
            for adapter in adapters
            for name, tensor in adapter.tensors.items()
        }
        config = json.dumps(_config(adapters, backbone), indent=2, sort_keys=True) + "\n"
        files[f"{folder}/{CONFIG_FILE}"] = config.encode()
        files[f"{folder}/{MODEL_FILE}"] = save_tensors(tensors, metadata={"format": "pt"})
    return files


def _config(adapters: list[StreamAdapter], backbone: str) -> dict[str, Any]:
    layer = adapters[0].layer
    rank = layer.lora_a.shape[1]
    alpha = layer.scale * rank
    return {
        **_PLAIN,
        "base_model_name_or_path": backbone,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
        "lora_dropout": layer.dropout.p,
        "r": rank,
        "target_modules": sorted(adapter.name for adapter in adapters),
        "task_type": None,
    }


def write_adapters(model: Classifier, folder: Path, *, backbone: str) -> None:
    """Write the folders of all streams into ``folder``, which is replaced as a whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with replaced(folder) as (temporary,):
        write_files(temporary, adapter_files(model, backbone=backbone))


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    """Write files below a folder, which is made."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@torch.no_grad()
def load_adapters(model: Classifier, folder: Path) -> None:
    """Put adapters that lie in PEFT's layout, written here or by PEFT, into a model, strictly.

    Nothing is changed unless everything fits.

    Raises
    ------
    MissingDataError
        If the folder of a stream is missing.
    DamageError
        If a file cannot be read.
    SettingsError
        If an adapter is more than a pair of matrices, or names, shapes or scale differ.
    """
    wanted = adapter_folders(model)
    strange = sorted(p.parent.name for p in folder.glob(f"*/{CONFIG_FILE}"))
    strange = [name for name in strange if name not in wanted]
    if strange:
        msg = f"{folder} has adapters of {', '.join(strange)}, the model of {', '.join(wanted)}"
        raise SettingsError(msg)
    pairs = [
        pair for name, adapters in wanted.items() for pair in _matched(folder / name, adapters)
    ]
    for own, tensor in pairs:
        own.copy_(tensor)


def _matched(folder: Path, adapters: list[StreamAdapter]) -> list[tuple[Tensor, Tensor]]:
    """Return (the model's tensor, the file's) for all of one folder."""
    tensors = _read(folder, adapters[0].layer.scale)
    own = {name: t for adapter in adapters for name, t in adapter.tensors.items()}
    wrong = [
        *(f"{name} is missing" for name in own if name not in tensors),
        *(f"{name} is no adapter of this model" for name in sorted(tensors) if name not in own),
        *(
            f"{name} is {tuple(tensors[name].shape)} instead of {tuple(t.shape)}"
            for name, t in own.items()
            if name in tensors and tensors[name].shape != t.shape
        ),
    ]
    if wrong:
        more = f" and {len(wrong) - 2} more" if len(wrong) > 2 else ""
        msg = f"{folder} does not fit the model: {'; '.join(wrong[:2])}{more}"
        raise SettingsError(msg)
    return [(tensor, tensors[name]) for name, tensor in own.items()]


def _read(folder: Path, scale: float) -> dict[str, Tensor]:
    for file in (CONFIG_FILE, MODEL_FILE):
        if not (folder / file).is_file():
            msg = f"{folder} has no {file}, and the model has adapters of that name"
            raise MissingDataError(msg)
    try:
        config = json.loads((folder / CONFIG_FILE).read_bytes())
        tensors = load_tensors((folder / MODEL_FILE).read_bytes())
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        msg = f"{folder} is damaged ({error}); write it again"
        raise DamageError(msg) from error
    other = [key for key, value in _PLAIN.items() if (config.get(key) or value) != value]
    if other:
        msg = f"{folder / CONFIG_FILE} is more than a plain LoRA: {other[0]} is {config[other[0]]}"
        raise SettingsError(msg)
    if alpha / rank != scale:
        msg = f"{folder} scales by {alpha:g} / {rank}, the model by {scale:g}; set lora.alpha alike"
        raise SettingsError(msg)
    return tensors
