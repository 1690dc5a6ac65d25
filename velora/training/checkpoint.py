"""A run folder: settings, facts, metrics, weights and the states to go on from.

    config.toml         the settings; a recipe like any other
    run.json            what the run depends on: data, trunk, versions
    metrics.jsonl       one line an epoch
    steps.jsonl         one line an update
    model.safetensors   what a run keeps (adapters, embeddings, head ...), of the best epoch
    state-<step>.pt     the last two states: the same tensors, optimiser, place in the epoch
    result.json         the test split; its presence says that the run is finished
    .lock               held while a process trains here

Every file is replaced as a whole (written beside, synced, renamed), so a killed run leaves the
previous state, never half of one; ``steps.jsonl`` alone grows, and what is beyond the state is
dropped from it.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import torch
from msgspec import Struct
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from eventkit.atomic import TEMPORARY, remove, write_atomic
from eventkit.errors import DamageError, LockedError, MissingDataError, SettingsError
from velora.config import differing_keys, load_settings, to_toml
from velora.data import DataSpec
from velora.model.classifier import kept_parameters
from velora.settings import Settings
from velora.training.lines import read_lines

RUN_SCHEMA = 1
WEIGHTS = "model.safetensors"


class TrunkFacts(Struct, frozen=True, kw_only=True):
    """Which trunk a run stands on; the trunk itself is not kept in the run."""

    kind: str
    backbone: str
    origin: str
    #: Of the trunk's tensors; see ``velora.model.backbone.TrunkSource``.
    sha256: str


class RunFacts(Struct, frozen=True, kw_only=True):
    """What a run depends on besides its settings."""

    schema: int = RUN_SCHEMA
    recipe: str
    settings_sha256: str
    data: DataSpec
    trunk: TrunkFacts
    versions: dict[str, str]


class RunFolder:
    """The files of one run; see the module's note."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def finished(self) -> bool:
        """Whether the run has its test result."""
        return (self.path / "result.json").is_file()

    @property
    def exists(self) -> bool:
        """Whether a run has been started here."""
        return (self.path / "run.json").is_file()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process; the system lets go of it if the process dies."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                msg = f"another process trains in {self.path}; wait for it or choose another --out"
                raise LockedError(msg) from error
            yield

    def check_same(self, settings: Settings, *, settings_sha256: str, data: DataSpec) -> None:
        """Refuse to mix two runs: a started run must have these settings and shards.

        Raises
        ------
        SettingsError
            Names the settings that differ.
        """
        differences = self.differences(
            settings, settings_sha256=settings_sha256, plan_id=data.plan_id
        )
        if differences is None:
            return
        msg = (
            f"{self.path} is a run with other settings (there and here): "
            f"{'; '.join(differences) or 'the content of the weights file, or the version'}; "
            "choose another --name, or leave it out"
        )
        raise SettingsError(msg)

    def differences(
        self, settings: Settings, *, settings_sha256: str, plan_id: str
    ) -> list[str] | None:
        """Say in what a started run differs (there and here); None if it is of this hash.

        An empty list: by what no setting names, as the content of the weights file, or settings
        that a later version added.
        """
        old_settings, old = self.read()
        if old.settings_sha256 == settings_sha256:
            return None
        differing = differing_keys(old_settings, settings)
        if old.data.plan_id != plan_id:
            differing.append(f"shards: plan {old.data.plan_id[:12]} and {plan_id[:12]}")
        return differing

    def start(self, settings: Settings, facts: RunFacts) -> None:
        """Write settings and facts of a new run; a started one must stand on the same trunk."""
        for left_by_a_kill in self.path.glob(f"{TEMPORARY}*"):
            remove(left_by_a_kill)
        if self.exists:
            _, old = self.read()
            if old.trunk.sha256 != facts.trunk.sha256:
                msg = (
                    f"{self.path} was trained on another trunk ({old.trunk.kind}: "
                    f"{old.trunk.origin}); give that one, or choose another --name"
                )
                raise SettingsError(msg)
            return
        strangers = sorted(p.name for p in self.path.iterdir() if p.name != ".lock")
        if strangers and strangers != ["config.toml"]:
            msg = f"{self.path} is not a run folder (it holds {strangers[0]}); choose another name"
            raise SettingsError(msg)
        write_atomic(self.path / "config.toml", to_toml(settings).encode())
        write_atomic(self.path / "run.json", _json(facts))

    def read(self) -> tuple[Settings, RunFacts]:
        """Read the settings and facts of a run."""
        if not self.exists:
            msg = f"{self.path} is not a run folder: it has no run.json; train with velora-train"
            raise MissingDataError(msg)
        _, settings = load_settings(str(self.path / "config.toml"))
        try:
            facts = msgspec.json.decode((self.path / "run.json").read_bytes(), type=RunFacts)
        except msgspec.DecodeError as error:
            msg = f"{self.path / 'run.json'} is damaged: {error}"
            raise DamageError(msg) from error
        if facts.schema != RUN_SCHEMA:
            msg = f"{self.path} has schema {facts.schema}, this version reads {RUN_SCHEMA}"
            raise SettingsError(msg)
        return settings, facts

    def save_weights(self, model: nn.Module, *, epoch: int) -> None:
        """Save what a run keeps, as the weights of an epoch."""
        # One entry only: safetensors writes several in any order, and equal runs in equal bytes.
        data = save_tensors(kept_tensors(model), metadata={"epoch": str(epoch)})
        write_atomic(self.path / WEIGHTS, data)

    def load_weights(self, model: nn.Module) -> int:
        """Put the saved weights into a model built alike; returns their epoch."""
        path = self.path / WEIGHTS
        if not path.is_file():
            msg = f"{self.path} has no weights yet: its first epoch has not ended; train on"
            raise MissingDataError(msg)
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                metadata = file.metadata() or {}
        except SafetensorError as error:
            msg = f"{path} is damaged ({error}); train again in another folder"
            raise DamageError(msg) from error
        load_kept(model, tensors, where=str(path))
        return int(metadata.get("epoch", 0))

    def add_metrics(self, record: dict[str, Any]) -> None:
        """Add the line of an epoch, in place of any line of that epoch or a later one."""
        path = self.path / "metrics.jsonl"
        kept = [line for line in self.metrics() if line["epoch"] < record["epoch"]]
        text = "".join(json.dumps(line) + "\n" for line in [*kept, record])
        write_atomic(path, text.encode())

    def metrics(self) -> list[dict[str, Any]]:
        """Read the lines of the epochs so far; see `read_lines`."""
        return read_lines(self.path / "metrics.jsonl", number="epoch")

    def write_json(self, name: str, value: object) -> Path:
        """Write one JSON file of the run; returns its path."""
        write_atomic(self.path / name, _json(value))
        return self.path / name


def kept_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Copies of all that a run keeps, on the CPU, by name."""
    return {name: p.detach().cpu().clone() for name, p in kept_parameters(model).items()}


def load_kept(model: nn.Module, tensors: dict[str, Tensor], *, where: str) -> None:
    """Put tensors into what a run keeps of a model, strictly.

    Raises
    ------
    DamageError
        If a name or a shape does not fit; ``where`` is named.
    """
    own = kept_parameters(model)
    wrong = sorted(
        name
        for name in own.keys() | tensors.keys()
        if name not in own or name not in tensors or own[name].shape != tensors[name].shape
    )
    if wrong:
        msg = f"{where} does not fit the run's config.toml: {', '.join(wrong[:3])}"
        raise DamageError(msg)
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(tensors[name])


def _json(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
