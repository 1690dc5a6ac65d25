"""Published weights of a ViT -> a safetensors file that ``--weights`` takes, checked strictly.

Torch pickles are read with ``weights_only=True``: no code in them is run.
"""

from __future__ import annotations

import json
import math
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from eventkit.atomic import make_folder, scratch
from eventkit.errors import DamageError, FormatError, MissingDataError, SettingsError
from velora._torchvision import ensure_torchvision
from velora.files.kept_files import Kept, keep
from velora.files.weight_layouts import Translated, translate
from velora.model.backbone import NOT_TAKEN, not_taken
from velora.model.trunk import Vit
from velora.weights import timm_model

ensure_torchvision()

import timm  # noqa: E402  (needs the line above)

#: What a folder that Hugging Face wrote may hold, in the order of preference.
_IN_FOLDER = (
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# Where checkpoints of training scripts keep the model among other things.
_NESTED = ("state_dict", "model", "model_state_dict", "teacher")


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """Weights for a timm model, complete.

    ``unused`` gives the reason for every tensor of the file that is left out; ``notes`` say what
    should be known of the others.
    """

    backbone: str
    layout: str
    tensors: dict[str, Tensor]
    unused: dict[str, str]
    notes: tuple[str, ...] = ()


def read_weights(
    path: Path, *, backbone: str, backbone_kwargs: Mapping[str, Any] | None = None
) -> Weights:
    """Read weights of any known layout for a timm model.

    Parameters
    ----------
    path : Path
        A safetensors or torch file, the index of a file in parts, or a folder with one of them.
    backbone : str
        The timm name.
    backbone_kwargs : mapping, optional
        Passed on to ``timm.create_model``.

    Raises
    ------
    MissingDataError, FormatError, DamageError
        If there is no such file, or it cannot be read.
    SettingsError
        If the layout is not known, or the tensors are not exactly those of the model.
    """
    vit = _bare_model(backbone, dict(backbone_kwargs or {}))
    file = _file_of(path)
    found = translate(_tensors(file), where=str(file))
    notes = _check(vit, found, file, backbone)
    return Weights(
        backbone=backbone,
        layout=found.layout,
        tensors=found.tensors,
        unused=found.unused,
        notes=(*notes, *_activation_notes(file, vit, backbone)),
    )


def write_weights(weights: Weights, out: Path) -> Kept:
    """Write weights as safetensors; a file that is there already must be the same."""
    make_folder(out.parent)
    tensors = {name: tensor.contiguous().clone() for name, tensor in weights.tensors.items()}
    with scratch(out) as folder:
        facts = json.dumps({"backbone": weights.backbone, "layout": weights.layout})
        save_file(tensors, folder / out.name, metadata={"velora": facts})
        return keep(folder, out)


def _bare_model(backbone: str, kwargs: dict[str, Any]) -> Vit:
    name, kwargs = timm_model(backbone, kwargs)
    if not timm.is_model(name):
        msg = f"timm has no model {backbone!r}; see timm.list_models('vit*')"
        raise SettingsError(msg)
    try:
        with torch.device("meta"):
            return timm.create_model(name, num_classes=0, **kwargs)
    except (*NOT_TAKEN, ValueError, RuntimeError) as error:
        raise SettingsError(not_taken(backbone, kwargs, error)) from error


def _file_of(path: Path) -> Path:
    if path.is_dir():
        found = [path / name for name in _IN_FOLDER if (path / name).is_file()]
        if not found:
            msg = f"{path} holds none of {', '.join(_IN_FOLDER)}; name the file itself"
            raise MissingDataError(msg)
        return found[0]
    if not path.is_file():
        msg = f"no weights file {path}"
        raise MissingDataError(msg)
    return path


def _tensors(path: Path) -> dict[str, Tensor]:
    if path.name.endswith(".index.json"):
        return _in_parts(path)
    with path.open("rb") as file:
        head = file.read(9)
    # A safetensors file starts with the length of its header, which is JSON.
    if head[8:9] == b"{":
        try:
            return load_file(path)
        except SafetensorError as error:
            msg = f"{path} is damaged ({error}); fetch it again"
            raise DamageError(msg) from error
    return _from_torch(path)


def _in_parts(path: Path) -> dict[str, Tensor]:
    try:
        owners: dict[str, str] = json.loads(path.read_bytes())["weight_map"]
        files = sorted(set(owners.values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"{path} is no index of a file in parts: {error}"
        raise FormatError(msg) from error
    tensors: dict[str, Tensor] = {}
    for name in files:
        if Path(name).name != name or not (path.parent / name).is_file():
            msg = f"{path} names {name}, which is not beside it"
            raise MissingDataError(msg)
        tensors |= _tensors(path.parent / name)
    missing = sorted(owners.keys() - tensors.keys())
    if missing:
        msg = f"{path} names {missing[0]}, which {owners[missing[0]]} does not hold"
        raise DamageError(msg)
    return tensors


def _from_torch(path: Path) -> dict[str, Tensor]:
    try:
        # As an open file: by a name, torch would decide on its own what is in it.
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of TorchScript, which is refused below
            tree = torch.load(file, weights_only=True, map_location="cpu")
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        if "TorchScript" in str(error):
            msg = (
                f"{path} is a TorchScript program, not weights: save "
                "torch.jit.load(FILE).state_dict() with torch.save first"
            )
        else:
            msg = (
                f"{path} is neither a safetensors file nor one of torch with nothing but tensors "
                f"({str(error).splitlines()[0]})"
            )
        raise FormatError(msg) from error
    while isinstance(tree, Mapping) and not any(isinstance(v, Tensor) for v in tree.values()):
        inner = [tree[key] for key in _NESTED if isinstance(tree.get(key), Mapping)]
        if not inner:
            break
        tree = inner[0]
    if not isinstance(tree, Mapping):
        msg = f"{path} holds a {type(tree).__name__}, not tensors by name"
        raise FormatError(msg)
    return {str(name): value for name, value in tree.items() if isinstance(value, Tensor)}


def _check(vit: Vit, found: Translated, file: Path, backbone: str) -> list[str]:
    """Refuse anything but the tensors of the model; return what the loader will do to them."""
    own, tensors = vit.state_dict(), found.tensors
    notes = []
    for name in [name for name in ("pos_embed",) if name in own and name in tensors]:
        ours, theirs = own[name].shape, tensors[name].shape
        if ours != theirs and _is_grid(theirs[1], vit) and ours[2] == theirs[2]:
            notes.append(
                f"its positions are for {theirs[1]} tokens, {backbone} has {ours[1]}: they are "
                "resampled when it is loaded"
            )
            own = {**own, name: tensors[name]}
    wrong = {
        "missing": [name for name in own if name not in tensors],
        "unexpected": sorted(name for name in tensors if name not in own),
        "of another shape": [
            f"{name} {tuple(tensors[name].shape)} instead of {tuple(tensor.shape)}"
            for name, tensor in own.items()
            if name in tensors and tensors[name].shape != tensor.shape
        ],
    }
    said = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for what, names in wrong.items()
        if names
    ]
    if said:
        msg = (
            f"{file} ({found.layout}) does not fit {backbone}: {'; '.join(said)}; give the "
            "--backbone that these weights belong to"
        )
        raise SettingsError(msg)
    return notes


def _is_grid(num_positions: int, vit: Vit) -> bool:
    """Tell whether so many positions are those of a square picture."""
    prefix = 0 if getattr(vit, "no_embed_class", False) else vit.num_prefix_tokens
    patches = max(0, num_positions - prefix)
    return patches > 0 and math.isqrt(patches) ** 2 == patches


def _activation_notes(file: Path, vit: Vit, backbone: str) -> list[str]:
    """Say where the activation of the published model is not that of the timm model."""
    config = file.with_name("config.json")
    try:
        tree = json.loads(config.read_bytes()) if config.is_file() else {}
    except ValueError:
        return [f"{config} cannot be read, so its activation is not compared"]
    tree = tree.get("vision_config", tree)
    theirs = tree.get("hidden_act")
    ours = type(getattr(vit.blocks[0].mlp, "act", None)).__name__
    known = {"quick_gelu": "QuickGELU", "gelu": "GELU", "gelu_pytorch_tanh": "GELUTanh"}
    if theirs is None or known.get(theirs, theirs) == ours:
        return []
    name = {"gelu_pytorch_tanh": "gelu_tanh"}.get(theirs, theirs)
    return [
        f"its activation is {theirs}, that of {backbone} is {ours}: train with "
        f"model.backbone_kwargs.act_layer = {name!r}, or a variant of the name that has it"
    ]
