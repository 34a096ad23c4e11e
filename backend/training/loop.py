"""Trains any network: one loop with warm-up, averaged weights, resuming, a loss plot and sample sheets."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from diffusers.models.attention_processor import Attention, AttnProcessor
from diffusers.training_utils import EMAModel
from matplotlib.figure import Figure
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ..pipelines.devices import computes_bfloat16
from ..shared.protocol import DioramaError, explained
from .muon import Muon, hidden_matrices

Batch = dict[str, Tensor]
LOSSES, STATE = "losses.jsonl", "state.safetensors"


@dataclass(frozen=True)
class TrainingPlan:
    """How long and how fast one network learns.

    Attributes:
        learning_rate: after `warmup` steps; falls to nothing along a cosine until `steps`.
        ema_decay: of the averaged weights, which are the result.
        constant: it does not fall.
        clip_norm: of the gradients; None for as large as they are.
        keep_every: steps between saved states and sample sheets.
        muon: matrices between features learn by Muon, all else by AdamW; at the same rate.
    """

    steps: int
    learning_rate: float
    warmup: int = 100
    constant: bool = False
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    clip_norm: float | None = 1.0
    ema_decay: float = 0.999
    keep_every: int = 500
    muon: bool = False


def train(
    name: str,
    objective: nn.Module,  # forward(**batch) -> loss
    batch_of: Callable[[torch.Generator], Batch],
    plan: TrainingPlan,
    folder: Path,
    show: Callable[[Path], float] | None = None,
    *,
    parts: int = 1,
    workers: int = 0,
) -> None:
    """Minimises what `objective` returns, over its parameters that want gradients; leaves averaged weights.

    One process, or several under `accelerate launch` or `torchrun`: each then draws its own batches. What is
    in `folder` from an interrupted run is gone on from; a finished run is only loaded.

    Args:
        batch_of: a batch, drawn with the generator of its step, so that a resumed run sees what an
            uninterrupted one would have seen.
        folder: for the state, the losses (`losses.jsonl`, `losses.png`) and sample sheets.
        show: writes a sample sheet and returns a figure of merit, which is kept with the losses; called
            now and then, and at the end, with averaged weights in place.
        parts: how many batches make a step, one after the other, where memory does not hold them together.
        workers: processes that draw batches ahead; 0 draws them here. `batch_of` must be of plain data then.
    """
    accelerator = Accelerator(
        mixed_precision=_precision(),
        cpu=not torch.cuda.is_available(),
        # A batch of single images goes by the layers between views.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    device, rank = accelerator.device, accelerator.process_index
    objective.to(device)
    if device.type == "cpu" and accelerator.mixed_precision == "bf16":
        _attend_in_steps(objective)
    weights = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    average = EMAModel(weights, decay=plan.ema_decay, use_ema_warmup=True, power=3 / 4)
    optimizers = _optimizers(objective, weights, plan)
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / STATE
    first = _restore(state, weights, average, optimizers) if state.exists() else 0
    prepared: nn.Module = accelerator.prepare(objective)

    def note(**row: float) -> None:
        with open(folder / LOSSES, "a", encoding="ascii") as file:
            file.write(json.dumps(row) + "\n")

    def keep(step: int) -> None:
        if not accelerator.is_main_process:
            return
        _save(state, step, weights, average, optimizers)
        if show:
            average.store(weights)
            average.copy_to(weights)
            objective.eval()
            with torch.no_grad():
                note(step=step, measured=show(folder / f"samples-{step:06d}.png"))
            average.restore(weights)
        _plot(folder)

    began = time.monotonic()
    steps = range(first, plan.steps)
    numbers = [
        [(step * accelerator.num_processes + rank) * parts + part for part in range(parts)] for step in steps
    ]
    batches = _drawn(batch_of, [number for some in numbers for number in some], workers)
    shown = tqdm(steps, name, initial=first, total=plan.steps, disable=not accelerator.is_main_process)
    for step, some in zip(shown, numbers, strict=True):
        objective.train()
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = plan.learning_rate * _rate(step, plan)
        loss = _accumulate(accelerator, prepared, batches, some)
        if plan.clip_norm is not None:
            accelerator.clip_grad_norm_(weights, plan.clip_norm)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        average.step(weights)
        if accelerator.is_main_process and step % 20 == 0:
            note(step=step, loss=loss.item(), seconds=round(time.monotonic() - began, 1))
        if (step + 1) % plan.keep_every == 0 and step + 1 < plan.steps:
            keep(step + 1)
    if first < plan.steps:
        keep(plan.steps)
    average.copy_to(weights)
    objective.eval()


def _optimizers(
    objective: nn.Module, weights: list[nn.Parameter], plan: TrainingPlan
) -> list[torch.optim.Optimizer]:
    matrices = set(hidden_matrices(objective)) if plan.muon else set()
    chosen, others = ([weight for weight in weights if (weight in matrices) is so] for so in (True, False))
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            others, plan.learning_rate, betas=plan.betas, weight_decay=plan.weight_decay, fused=True
        )
    ]
    if chosen:
        optimizers.append(Muon(chosen, plan.learning_rate, weight_decay=plan.weight_decay))
    return optimizers


def _precision() -> str:
    """Half precision where the processor has it; where that is imitated, a step takes ten times as long."""
    quick = torch.cuda.is_available() or computes_bfloat16()
    return "bf16" if quick else "no"


def _attend_in_steps(objective: nn.Module) -> None:
    """Has attention be products and a softmax: torch's own goes backwards slowly on a CPU, in bfloat16."""
    for module in objective.modules():
        if isinstance(module, Attention):
            module.set_processor(AttnProcessor())


def _accumulate(
    accelerator: Accelerator, objective: nn.Module, batches: Iterator[Batch], numbers: list[int]
) -> Tensor:
    """The gradients of a step, from its batches one after the other; returns their mean loss."""
    device = accelerator.device
    total = torch.zeros((), device=device)
    for number in numbers:
        torch.manual_seed(number)  # for dropout and sampled posteriors, which know no other generator
        batch = {key: value.to(device) for key, value in next(batches).items()}
        last = number == numbers[-1]  # only then do processes tell each other their gradients
        with nullcontext() if last else accelerator.no_sync(objective):
            with accelerator.autocast():
                loss = objective(**batch) / len(numbers)
            accelerator.backward(loss)
        total += loss.detach()
    return total


def _rate(step: int, plan: TrainingPlan) -> float:
    fallen = 1.0 if plan.constant else 0.5 * (1 + math.cos(math.pi * step / plan.steps))
    return min(1.0, (step + 1) / plan.warmup) * fallen


class _Numbered(Dataset[Any]):
    """The batches of some numbers, each drawn with the generator of its own."""

    def __init__(self, batch_of: Callable[[torch.Generator], Batch], numbers: list[int]) -> None:
        self.batch_of = batch_of
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Batch:
        return self.batch_of(torch.Generator().manual_seed(self.numbers[index]))


class _ErrorsAsValues(_Numbered):
    """The same in another process, whose errors come as values: an exception would lose its code there."""

    def __getitem__(self, index: int) -> Any:
        try:
            return super().__getitem__(index)
        except Exception as error:
            return explained(error).to_dict()


def _drawn(batch_of: Callable[[torch.Generator], Batch], numbers: list[int], workers: int) -> Iterator[Batch]:
    """A batch for each number, in their order."""
    if not workers:
        here = _Numbered(batch_of, numbers)
        yield from (here[index] for index in range(len(here)))
        return
    batches = _ErrorsAsValues(batch_of, numbers)
    # With a generator of its own, for it draws a number that would otherwise be missing from a step's.
    loader: DataLoader[Any] = DataLoader(
        batches, batch_size=None, num_workers=workers, generator=torch.Generator()
    )
    for batch in loader:
        if "code" in batch:
            raise DioramaError.from_dict(batch)
        yield batch


def _save(
    path: Path, step: int, weights: list[Any], average: EMAModel, optimizers: list[torch.optim.Optimizer]
) -> None:
    """All that a resumed run needs, in one file that is whole or not there."""
    tensors: Batch = {"step": torch.tensor(step)}
    learns = _by_weight(optimizers)
    for i, weight in enumerate(weights):
        tensors[f"weight.{i}"] = weight.detach()
        tensors[f"average.{i}"] = average.shadow_params[i]
        for name, value in learns[weight].state[weight].items():
            tensors[f"optimizer.{i}.{name}"] = value
    partial = path.with_suffix(".partial")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial)
    os.replace(partial, path)


def _restore(
    path: Path, weights: list[Any], average: EMAModel, optimizers: list[torch.optim.Optimizer]
) -> int:
    tensors = load_file(path)
    step = int(tensors["step"])
    average.optimization_step = step
    kept: dict[str, Batch] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, number, name = key.split(".")
            kept.setdefault(number, {})[name] = tensor
    learns = _by_weight(optimizers)
    for i, weight in enumerate(weights):
        weight.data.copy_(tensors[f"weight.{i}"])
        average.shadow_params[i] = tensors[f"average.{i}"].to(weight.device)
        state = {name: tensor.to(weight.device) for name, tensor in kept.get(str(i), {}).items()}
        learns[weight].state[weight] = state
    return step


def _by_weight(optimizers: list[torch.optim.Optimizer]) -> dict[Any, torch.optim.Optimizer]:
    """Which of them each weight learns by."""
    return {
        weight: optimizer
        for optimizer in optimizers
        for group in optimizer.param_groups
        for weight in group["params"]
    }


def _plot(folder: Path) -> None:
    rows = [json.loads(line) for line in (folder / LOSSES).read_text("ascii").splitlines()]
    rows = [row for row in rows if "loss" in row]
    figure = Figure(figsize=(8, 4))
    axes = figure.subplots()
    axes.plot([row["step"] for row in rows], [row["loss"] for row in rows], linewidth=0.7)
    axes.set(xlabel="step", ylabel="loss", yscale="log", title=folder.name)
    figure.savefig(folder / "losses.png", dpi=100)
