"""Shared by the recipes: the command line, one process's share of a stage, the record of a training."""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from diffusers.configuration_utils import ConfigMixin
from torch import nn

from ..pipelines.model import ViewsModel
from ..shared.protocol import DioramaError
from ..training.full_size import processes
from ..training.loop import Batch, TrainingPlan, train

Plans = Mapping[str, tuple[int, TrainingPlan]]  # of each stage: the batch of all processes, and the rest


class Recipe(Protocol):
    """The networks of a model while they are trained, stage after stage."""

    def run(self, stage: str) -> None:
        """Trains one stage, or loads it if it is done."""

    def write(self, folder: Path) -> None:
        """Writes the shipped weights."""


def main(
    argv: list[str], name: str, description: str, plans: Plans, out: Path, recipe_of: Callable[[Path], Recipe]
) -> None:
    """Trains what is not trained yet, and writes the weights."""
    parser = argparse.ArgumentParser(prog=f"python -m backend train {name}", description=description)
    parser.add_argument("--work", type=Path, default=Path("out/training"), help="where stages are kept")
    parser.add_argument("--out", type=Path, default=out, help="where the weights go")
    parser.add_argument("--until", choices=plans, help="the last stage to train; writes no weights")
    args = parser.parse_args(argv)
    for stage, (size, _) in plans.items():
        if size % processes():
            raise DioramaError(
                "E_REQUEST",
                f"the batch of {size} of the stage {stage!r} cannot be shared by {processes()} processes",
            )
    recipe = recipe_of(args.work)
    for stage in plans:
        recipe.run(stage)
        if stage == args.until:
            return
    recipe.write(args.out)


def train_stage(
    stage: str,
    plans: Plans,
    folder: Path,
    objective: nn.Module,
    batch_of: Callable[[torch.Generator, int], Batch],
    show: Callable[[Path], float] | None,
) -> None:
    """Trains one stage as planned, in this process's share of the batch."""
    size, plan = plans[stage]
    train(stage, objective, lambda generator: batch_of(generator, size // processes()), plan, folder, show)


def write_model(model: ViewsModel, folder: Path, **networks: Any) -> None:
    """Writes the settings, the tokenizer and all networks of a model, half precision, as `load` reads them.

    Args:
        networks: more of them, by the names of their folders.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.settings.write(folder)
    model.tokenizer.save_pretrained(folder / "tokenizer")
    own = ("text_encoder", "image_encoder", "unet", "autoencoder", "reconstructor")
    for name, network in ({name: getattr(model, name) for name in own} | networks).items():
        if network is not None:
            kept = copy.deepcopy(network).half()
            if isinstance(kept, ConfigMixin):
                kept.register_to_config(_name_or_path="")  # where it was read from is not written
            kept.save_pretrained(folder / name)


def write_record(folder: Path, name: str, seed: int, plans: Plans, **facts: int) -> None:
    """Writes what the weights were made by, beside them."""
    made = {
        "recipe": f"python -m backend train {name}",
        "seed": seed,
        **facts,
        "plans": {
            stage: {"batch": size, **dataclasses.asdict(plan)} for stage, (size, plan) in plans.items()
        },
    }
    (folder / "training.json").write_text(json.dumps(made, indent=1) + "\n", "utf-8")
