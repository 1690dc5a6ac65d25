"""``python -m velora.pretrain train | probe | publish``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from eventkit.errors import EventKitError
from velora.pretrain.images import DEBIAN_FOLDER, pretraining_images
from velora.pretrain.probe import SIDE, probe, table
from velora.pretrain.publish import publish
from velora.pretrain.recipe import NAME, Recipe
from velora.pretrain.train import train


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of the commands; return the exit code."""
    options = _parser().parse_args(arguments)
    # Sums in another order are other bits.
    torch.set_num_threads(1)
    try:
        if options.command == "train":
            recipe = Recipe(images=options.images, seed=options.seed)
            train(recipe, pretraining_images(folder=options.data), options.out, tell=_say)
        elif options.command == "publish":
            found = publish(
                options.out, options.to, data=options.data, pairs=options.pairs, side=options.side
            )
            _say(f"wrote {NAME} to {options.to}\n{table(found)}")
        else:
            found = probe(
                options.weights, data=options.data, pairs=options.pairs, side=options.side
            )
            _say(table(found))
    except (EventKitError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; run the same command again to go on\n")
        return 130
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m velora.pretrain", description=f"Train {NAME}, the trunk of this package."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    learn = commands.add_parser("train", help="train from random weights, or go on")
    learn.add_argument("--images", type=int, default=Recipe().images, help="pictures to see")
    learn.add_argument("--seed", type=int, default=0)
    finish = commands.add_parser("publish", help="write weights, recipe, log and probe numbers")
    finish.add_argument("--to", type=Path, default=Path("velora/weights"))
    look = commands.add_parser("probe", help="what a linear classifier makes of the features")
    look.add_argument("weights", type=Path)
    for command in (learn, finish):
        command.add_argument("--out", type=Path, default=Path("pretrain"), help="folder of the run")
    for command in (finish, look):
        command.add_argument(
            "--pairs", type=Path, help="zip of N-MNIST pairs, whose images are probed as well"
        )
        command.add_argument("--side", type=int, default=SIDE, help="pixels of probed pictures")
    for command in (learn, finish, look):
        command.add_argument("--data", type=Path, default=DEBIAN_FOLDER, help="Fashion-MNIST")
    return parser


if __name__ == "__main__":
    sys.exit(main())
