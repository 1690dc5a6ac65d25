"""Two real processes train as one: the same curve, the same numbers, one message, no hang."""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.context
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rank_trainer
import torch
from velora_helpers import TINY_RECIPE, make_sample, write_shards

from eventkit.errors import SettingsError
from velora.config import load_settings
from velora.parallel import Ranks
from velora.run import TrainOptions, train
from velora.training.progress import PlainReporter
from velora.training.states import state_paths
from velora.training.step_log import read_steps

CPU = torch.device("cpu")
HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LAUNCH = """
import sys
from velora.training.launch import launch
processes, *command = sys.argv[1:]
sys.exit(launch([sys.executable, *command], processes=int(processes)))
"""
TOOL = ("-c", "from velora.cli import train; train()")
# Everything that makes the shares of the processes unequal; dropout alone differs by process.
CHANGES: dict[str, object] = {
    "train.epochs": 3,
    "train.mixup": 0.4,
    "train.class_weights": "balanced",
    "data.sampling": "balanced",
    "data.crop": 0.2,
    "lora.dropout": 0.0,
}


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """27 clips, some without a sense: the last batch of 8 has 3, two for one process."""
    rng = np.random.default_rng(0)
    senses = [("rgb", "event"), ("rgb",), ("rgb", "event"), ("event",)]
    splits = {
        split: [
            make_sample(
                f"{split}{i:03d}_000000", label=i * i % 3, rng=rng, senses=senses[i * i % 4]
            )
            for i in range(size)
        ]
        for split, size in {"train": 27, "val": 7, "test": 9}.items()
    }
    folder = tmp_path_factory.mktemp("uneven")
    (folder / "tiny.toml").write_text(TINY_RECIPE)
    names = {0: "a", 1: "b", 2: "c"}
    write_shards(folder / "shards", splits, classes=names)
    return folder


def start(*command: str, processes: int) -> subprocess.Popen[str]:
    head = [sys.executable, "-c", LAUNCH, str(processes)] if processes > 1 else [sys.executable]
    return subprocess.Popen(
        [*head, *command],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, HERE))),
            "OMP_NUM_THREADS": "1",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def server() -> multiprocessing.context.ForkServerContext:
    """A server that has imported torch; what it forks begins at once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["rank_trainer"])
    return context


def trained(
    server: multiprocessing.context.ForkServerContext,
    folder: Path,
    out: Path,
    *,
    processes: int,
    last: int | None = None,
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {
        "recipe": str(folder / "tiny.toml"),
        "shards_path": str(folder / "shards"),
        "out": str(out),
        "changes": CHANGES,
        "last": last,
    }
    with pytest.MonkeyPatch.context() as patch:
        # The server knows no path but the environment's.
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, (HERE, ROOT))))
        running = [
            server.Process(target=rank_trainer.main, args=(r, processes, port), kwargs=options)
            for r in range(processes)
        ]
        for process in running:
            process.start()
    for process in running:
        process.join(timeout=100)
    hung = [process for process in running if process.exitcode is None]
    for process in hung:
        process.kill()
    assert not hung
    assert [process.exitcode for process in running] == [0] * processes


def same_curve(a: Path, b: Path, *, rel: float) -> None:
    first, second = read_steps(a), read_steps(b)
    assert len(first) == len(second) == 12
    for one, other in zip(first, second, strict=True):
        assert (one["step"], one["clips"], one["hits"]) == (
            other["step"],
            other["clips"],
            other["hits"],
        )
        for name in ("loss", "rec_loss", "grad_norm", "lr"):
            assert one[name] == pytest.approx(other[name], rel=rel), (one, other)


def test_two_processes_have_the_curve_of_one_and_equal_weights(
    server: multiprocessing.context.ForkServerContext, uneven: Path, tmp_path: Path
) -> None:
    trained(server, uneven, tmp_path / "one", processes=1)
    trained(server, uneven, tmp_path / "two", processes=2)
    # One process begins and two go on, in the middle of an epoch.
    trained(server, uneven, tmp_path / "changed", processes=1, last=6)
    assert state_paths(tmp_path / "changed")[0].name == "state-00000006.pt"
    trained(server, uneven, tmp_path / "changed", processes=2)

    same_curve(tmp_path / "one", tmp_path / "two", rel=1e-6)
    same_curve(tmp_path / "one", tmp_path / "changed", rel=1e-6)
    first, second = (torch.load(tmp_path / "two" / f"rank{rank}.pt") for rank in (0, 1))
    alone = torch.load(tmp_path / "one" / "rank0.pt")
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
        torch.testing.assert_close(tensor, alone[name], rtol=1e-5, atol=1e-8, msg=name)


def result_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "result.json").read_bytes())
    return found


def test_the_command_on_two_processes_writes_one_run_with_the_numbers_of_one_process(
    uneven: Path, tmp_path: Path
) -> None:
    settings = load_settings(str(uneven / "tiny.toml"), {"train.epochs": 2, "lora.dropout": 0.0})[1]
    options = TrainOptions(shards=uneven / "shards", out=tmp_path / "one", device="cpu")
    run, _ = train(settings, recipe="tiny", options=options, reporter=PlainReporter())

    process = start(
        *TOOL,
        *("--shards", str(uneven / "shards"), "--recipe", str(uneven / "tiny.toml")),
        *("--epochs", "2", "--set", "lora.dropout=0", "--device", "cpu"),
        *("--out", str(tmp_path / "two")),
        processes=2,
    )
    out, err = process.communicate(timeout=120)

    assert (process.returncode, err) == (0, "")
    assert "on cpu x 2" in out
    assert out.count("epoch 2/2") == 1
    other = tmp_path / "two" / run.path.name
    assert {p.name for p in other.iterdir()} == {p.name for p in run.path.iterdir()}
    one, two = result_of(run.path), result_of(other)
    assert two["confusion"] == one["confusion"]
    for a, b in zip(one["scores"], two["scores"], strict=True):
        for name in ("samples", "left_out", "top1", "top1_interval", "view", "how"):
            assert a[name] == b[name]
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
    lines = [
        [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
        for path in (run.path, other)
    ]
    for a, b in zip(*lines, strict=True):
        assert (a["train_clips"], a["val_top1"]) == (b["train_clips"], b["val_top1"])


def test_a_gpu_for_each_process_or_a_sentence() -> None:
    ranks = Ranks(rank=1, world_size=2, local_rank=torch.cuda.device_count())

    with pytest.raises(SettingsError, match=r"a GPU for each process, got .*lower --devices"):
        ranks.device(torch.device("cuda"))
    assert ranks.device(CPU) == CPU


def test_an_error_of_one_process_ends_all_with_its_message_and_code(
    uneven: Path, tmp_path: Path
) -> None:
    shards = tmp_path / "shards"
    rng = np.random.default_rng(0)
    samples = [make_sample(f"k{i:03d}_000000", label=i % 3, rng=rng) for i in range(16)]
    names = {0: "a", 1: "b", 2: "c"}
    write_shards(shards, {"train": samples, "test": samples}, classes=names)
    tar = shards / "train" / "train-000000.tar"
    data = tar.read_bytes()
    place = data.index(b"k009_000000.events")
    tar.write_bytes(data[: place + 530] + bytes(200) + data[place + 730 :])

    begun = time.monotonic()
    process = start(
        *TOOL,
        *("--shards", str(shards), "--recipe", str(uneven / "tiny.toml"), "--epochs", "500"),
        *("--device", "cpu", "--out", str(tmp_path / "runs")),
        processes=2,
    )
    _, err = process.communicate(timeout=120)

    assert process.returncode == 4
    assert "k009_000000" in err
    assert "eventkit verify" in err
    assert len(err.strip().splitlines()) == 1
    assert time.monotonic() - begun < 60


SPEAKERS = """
import os, sys, time
from pathlib import Path
folder, texts, patience = Path(sys.argv[1]), sys.argv[2:4], float(sys.argv[4])
rank = int(os.environ["RANK"])
while rank and not (folder / "spoken").exists():
    time.sleep(0.01)
print(texts[rank], file=sys.stderr, flush=True)
(folder / "spoken").touch()
time.sleep(0 if rank else patience)
sys.exit(2)
"""


@pytest.mark.parametrize("patience", [0, 60])
def test_what_the_first_has_said_before_it_was_ended_is_not_said_again(
    tmp_path: Path, patience: int
) -> None:
    said = "error: no such device"

    process = start("-c", SPEAKERS, str(tmp_path), said, said, str(patience), processes=2)
    _, err = process.communicate(timeout=100)

    assert (process.returncode, err) == (2, f"{said}\n")


def test_what_another_one_alone_has_to_say_is_said_beside_the_first(tmp_path: Path) -> None:
    texts = ("warning: of the first", "error: of the second")

    process = start("-c", SPEAKERS, str(tmp_path), *texts, "60", processes=2)
    _, err = process.communicate(timeout=100)

    assert (process.returncode, err) == (2, "".join(f"{text}\n" for text in texts))


EARLY = """
import os, signal
from velora import cli
cli.check_installed = lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM)
cli.train()
"""


def test_one_of_several_that_is_ended_before_they_have_met_says_nothing() -> None:
    whole = {**os.environ, "RANK": "0", "WORLD_SIZE": "2"}

    done = subprocess.run(
        [sys.executable, "-c", EARLY], env=whole, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (-signal.SIGTERM, "")


@pytest.mark.long
def test_what_all_refuse_is_said_once(uneven: Path, tmp_path: Path) -> None:
    process = start(
        *TOOL,
        *("--shards", str(uneven / "shards"), "--recipe", str(uneven / "tiny.toml")),
        *("--batch-size", "7", "--device", "cpu", "--out", str(tmp_path)),
        processes=2,
    )
    _, err = process.communicate(timeout=120)

    assert process.returncode == 2
    assert len(err.strip().splitlines()) == 1
    assert "divides the global batch of 7" in err


@pytest.mark.parametrize(
    ("number", "code"),
    [pytest.param(signal.SIGTERM, 143, marks=pytest.mark.long), (signal.SIGKILL, -9)],
)
def test_a_launcher_that_is_ended_leaves_no_process_behind(
    uneven: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    process = start(
        *TOOL,
        *("--shards", str(uneven / "shards"), "--recipe", str(uneven / "tiny.toml")),
        *("--epochs", "100000", "--device", "cpu", "--out", str(tmp_path), "--name", "run"),
        processes=2,
    )
    deadline = time.monotonic() + 100
    while not read_steps(tmp_path / "run") and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.05)

    process.send_signal(number)

    # The pipes close when the last of the processes has ended.
    process.communicate(timeout=30)
    assert process.returncode == code
