"""The training loop: losses fall, an interrupted run ends as an uninterrupted one, states are whole files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from backend.shared.protocol import DioramaError
from backend.training.loop import LOSSES, TrainingPlan, _rate, train
from tests.test_worlds import import_with_blocked


class Line(nn.Module):
    """Learns y = 3 x + 1."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.line = nn.Linear(1, 1)
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return (self.line(x) - 3 * x - 1).square().mean()


class Interruption(Exception):
    """Somebody stops the run."""


def batch_of(generator: torch.Generator) -> dict[str, Tensor]:
    return {"x": torch.rand(16, 1, generator=generator)}


def weights(net: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


def test_loss_falls_and_is_kept_with_a_plot(tmp_path: Path) -> None:
    sheets = []
    net = Line()
    plan = TrainingPlan(200, 0.1, warmup=10, keep_every=100, ema_decay=0.9)
    train("line", net, batch_of, plan, tmp_path, lambda path: float(len(sheets.append(path) or sheets)))
    rows = [json.loads(line) for line in (tmp_path / LOSSES).read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < 0.05 * losses[0]
    assert [row["measured"] for row in rows if "measured" in row] == [1.0, 2.0]
    assert [path.name for path in sheets] == ["samples-000100.png", "samples-000200.png"]
    assert (tmp_path / "losses.png").stat().st_size > 1000
    assert net.frozen.item() == 1


@pytest.mark.parametrize("muon", [False, True])
def test_interrupted_run_ends_as_an_uninterrupted_one(tmp_path: Path, muon: bool) -> None:
    plan = TrainingPlan(60, 0.1, warmup=5, keep_every=20, muon=muon)
    whole, broken, resumed = Line(), Line(), Line()
    train("line", whole, batch_of, plan, tmp_path / "whole")
    steps = 0

    def until_45(generator: torch.Generator) -> dict[str, Tensor]:
        nonlocal steps
        steps += 1
        if steps == 46:
            raise Interruption
        return batch_of(generator)

    with pytest.raises(Interruption):
        train("line", broken, until_45, plan, tmp_path / "broken")
    train("line", resumed, batch_of, plan, tmp_path / "broken")
    assert torch.equal(weights(resumed), weights(whole))


def test_finished_run_is_only_loaded(tmp_path: Path) -> None:
    plan = TrainingPlan(20, 0.1, keep_every=20)
    first, second = Line(), Line()
    train("line", first, batch_of, plan, tmp_path)

    def never(generator: torch.Generator) -> dict[str, Tensor]:
        raise AssertionError("trained again")

    train("line", second, never, plan, tmp_path)
    assert torch.equal(weights(first), weights(second))
    assert not list(tmp_path.glob("*.partial"))


def test_a_step_of_two_parts_is_one_of_both_together(tmp_path: Path) -> None:
    def numbered(*numbers: int) -> dict[str, Tensor]:
        return {"x": torch.cat([batch_of(torch.Generator().manual_seed(n))["x"] for n in numbers])}

    plan = TrainingPlan(3, 0.1, warmup=1, keep_every=3)
    parted, whole = Line(), Line()
    train("line", parted, batch_of, plan, tmp_path / "parted", parts=2)

    def both(generator: torch.Generator) -> dict[str, Tensor]:
        step = generator.initial_seed()
        return numbered(2 * step, 2 * step + 1)

    train("line", whole, both, plan, tmp_path / "whole")
    torch.testing.assert_close(weights(parted), weights(whole))


def broken_data(generator: torch.Generator) -> dict[str, Tensor]:
    raise DioramaError("E_DATA", "a.png cannot be read")


def test_other_processes_draw_the_same_and_tell_what_is_wrong(tmp_path: Path) -> None:
    plan = TrainingPlan(3, 0.1, warmup=1, keep_every=3)
    here, ahead = Line(), Line()
    train("line", here, batch_of, plan, tmp_path / "here")
    train("line", ahead, batch_of, plan, tmp_path / "ahead", workers=1)
    assert torch.equal(weights(here), weights(ahead))
    with pytest.raises(DioramaError, match=r"a\.png cannot be read") as caught:
        train("line", Line(), broken_data, plan, tmp_path / "broken", workers=1)
    assert caught.value.code == "E_DATA"


def test_what_is_needed_at_the_first_kept_state_is_missed_before_the_first_step() -> None:
    assert "matplotlib" in import_with_blocked(["backend.training.loop"], ["matplotlib"]).stderr


def test_a_constant_rate_does_not_fall(tmp_path: Path) -> None:
    constant = TrainingPlan(100, 0.1, warmup=10, constant=True)
    assert [_rate(step, constant) for step in (0, 4, 9, 99)] == [0.1, 0.5, 1.0, 1.0]
    assert _rate(99, TrainingPlan(100, 0.1, warmup=10)) < 0.01
