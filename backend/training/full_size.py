"""Training of a model from its folder and a data set on disk: the command line, the run, and what comes out.

A run is kept in a work folder and gone on from there; several processes share it under `accelerate launch`
or `torchrun`, also those of other machines that see the same folders. The result is a folder of its own: the
model that was begun with stays as it was.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..job import check_output
from ..pipelines import plan as running
from ..pipelines.model import ViewsModel, load
from ..shared import manifests, model_store
from ..shared.manifests import sha256
from ..shared.protocol import DioramaError
from .loop import Batch, TrainingPlan, train

MADE = "training.json"  # what a result was made by; in the work folder, what a run is
SEED = 0
IMAGES_AT_ONCE = 8  # through the autoencoder, which needs more memory for an image than all else
_NOT_COPIED = (manifests.MANIFEST, MADE, "evaluation.json")  # true of the model that was begun with only


@dataclass(frozen=True)
class Run:
    """One training, as it was asked for."""

    recipe: str  # the command
    model: Path
    data: Path
    work: Path  # of this stage alone
    out: Path
    batch: int  # of all processes together
    at_once: int  # of one process
    workers: int
    plan: TrainingPlan

    @property
    def parts(self) -> int:
        """How many batches of `at_once` a process makes of its share of a step."""
        return self.batch // processes() // self.at_once


def processes() -> int:
    """How many take part."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return os.environ.get("RANK", "0") == "0"


def parser_of(command: str, description: str | None) -> argparse.ArgumentParser:
    """The options that all trainings have."""
    parser = argparse.ArgumentParser(
        prog=f"python -m backend {command}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", type=Path, required=True, help="the model folder to begin with; it is not changed")
    add("--data", type=Path, required=True, help="G-Objaverse's layout, or what render_dataset.py made")
    add("--work", type=Path, required=True, help="where the run is kept, and gone on from")
    add("--out", type=Path, required=True, help="the folder to make")
    add("--steps", type=int, help="default: the paper's")
    add("--batch", type=int, help="objects a step, over all processes; default: the paper's")
    add("--at-once", type=int, default=1, help="objects in a GPU's memory; the rest of a batch follows")
    add("--learning-rate", type=float, help="default: the paper's")
    add("--keep-every", type=int, help="steps between saved states and sample sheets; default: 1000")
    add("--workers", type=int, default=min(4, os.cpu_count() or 1), help="processes that read images")
    return parser


def run_of(args: argparse.Namespace, recipe: str, batch: int, plan: TrainingPlan) -> Run:
    """The run that a command line asks for, with the paper's plan where it says nothing.

    Raises:
        DioramaError: E_REQUEST for numbers that do not fit; E_OUTPUT_UNWRITABLE.
    """
    given = {"steps": args.steps, "learning_rate": args.learning_rate, "keep_every": args.keep_every}
    plan = dataclasses.replace(plan, **{name: value for name, value in given.items() if value is not None})
    batch = args.batch or batch
    for name, number in (("steps", plan.steps), ("keep-every", plan.keep_every), ("at-once", args.at_once)):
        if number < 1:
            raise DioramaError("E_REQUEST", f"--{name} is {number}, expected 1 or more")
    if plan.learning_rate <= 0 or args.workers < 0:
        raise DioramaError("E_REQUEST", "--learning-rate must be above 0, and --workers not below it")
    if batch < 1 or batch % (processes() * args.at_once):
        raise DioramaError(
            "E_REQUEST",
            f"a batch of {batch} cannot be shared by {processes()} processes, {args.at_once} at once",
            f"Choose a --batch that is a multiple of {processes() * args.at_once}.",
        )
    out, model = args.out.resolve(), args.model.resolve()
    if out == model or model in out.parents:
        raise DioramaError("E_REQUEST", f"--out {out} is in the model's own folder", "Choose another folder.")
    if out.exists() and any(out.iterdir()) and _read(out / MADE).get("recipe") != recipe:
        raise DioramaError(
            "E_OUTPUT_UNWRITABLE", f"{out} is not empty, and no earlier result of this", "Choose a new one."
        )
    work = args.work.resolve() / recipe.rsplit(maxsplit=1)[-1]
    if out == work or out in work.parents:
        raise DioramaError(
            "E_REQUEST", f"--work {args.work} is in --out {out}, which is replaced", "Choose another folder."
        )
    check_output(out.parent)
    check_output(work)
    return Run(recipe, model, args.data, work, out, batch, args.at_once, args.workers, plan)


def load_model(run: Run) -> ViewsModel:
    """The model to begin with, in full precision, wherever it will be trained."""
    torch.manual_seed(SEED)
    return load(run.model, running.Plan(images_at_once=IMAGES_AT_ONCE))


def carry_out(
    run: Run,
    objective: nn.Module,
    batch_of: Callable[[torch.Generator], Batch],
    show: Callable[[Path], float],
    data: dict[str, Any],
    write: Callable[[Path], None],
) -> None:
    """Trains, or goes on training, and makes the result.

    Args:
        batch_of: of `run.at_once` objects; of plain data, so that other processes can draw.
        data: what is learnt from, in words and numbers, to be written down.
        write: writes what was trained into an unfinished result.

    Raises:
        DioramaError: E_REQUEST if the work folder holds another run.
    """
    made = _record(run, data)
    before = _read(run.work / MADE)
    different = sorted(key for key in made if before and before.get(key) != made[key])
    if different:
        raise DioramaError(
            "E_REQUEST",
            f"{run.work} holds another run, with other {', '.join(different)}",
            "Give the same options to go on with it, or another --work to begin anew.",
            detail="\n".join(f"{key}: {before.get(key)} there, {made[key]} here" for key in different),
        )
    if is_first():
        (run.work / MADE).write_text(json.dumps(made, indent=1) + "\n", "utf-8")
    train(
        run.recipe.removeprefix("python -m backend train "),
        objective,
        batch_of,
        run.plan,
        run.work,
        show,
        parts=run.parts,
        workers=run.workers,
    )
    if is_first():
        with _unfinished(run.out) as folder:
            write(folder)
            (folder / MADE).write_text(json.dumps(made, indent=1) + "\n", "utf-8")
            if (run.model / manifests.MANIFEST).is_file() and (folder / model_store.SETTINGS).is_file():
                manifests.seal(folder, manifests.read_manifest(run.model)["model"])


def copy_with(run: Run, part: str, network: Any, folder: Path) -> None:
    """The model that was begun with, with one network in place of its own, in half precision."""

    def left_out(parent: str, names: list[str]) -> list[str]:
        return [name for name in names if name in (*_NOT_COPIED, part)] if Path(parent) == run.model else []

    shutil.copytree(run.model, folder, ignore=left_out, dirs_exist_ok=True)
    network.cpu().half().save_pretrained(folder / part)


def _record(run: Run, data: dict[str, Any]) -> dict[str, Any]:
    weights = sorted(run.model.rglob("*.safetensors"))
    return {
        "recipe": run.recipe,
        "seed": SEED,
        "data": data,
        "batch": run.batch,
        "plan": json.loads(json.dumps(dataclasses.asdict(run.plan))),
        "base": {
            path.relative_to(run.model).as_posix(): sha256(path) for path in weights
        },  # what was begun with
    }


@contextmanager
def _unfinished(out: Path) -> Iterator[Path]:
    """A folder that gets its name when it is whole, in place of an earlier result."""
    folder = out.with_name(f".unfinished-{out.name}")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
        yield folder
        if out.exists():
            shutil.rmtree(out)
        folder.rename(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
