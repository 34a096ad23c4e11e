"""Runs our networks on a fixture and compares what comes out with what the published ones gave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from . import triposplat, videomv, vividzoo
from .fixture import Fixture, load_fixture

CHECKS: dict[str, Callable[[Fixture], dict[str, Tensor]]] = {
    "camera_tables": videomv.camera_tables,
    "lgm": videomv.lgm,
    "videomv_t2v_unet": videomv.text_unet,
    "videomv_i2v_unet": videomv.image_unet,
    "videomv_3d_aware_step_t2v": videomv.three_d_aware,
    "videomv_3d_aware_step_i2v": videomv.three_d_aware,
    "videomv_sampler_t2v": videomv.sampler,
    "videomv_sampler_i2v": videomv.sampler,
    "mvdream_v15_unet": vividzoo.mvdream,
    "mvdream_v21_unet": vividzoo.mvdream,
    "animatediff_v2_motion_module": vividzoo.motion_module,
    "animatediff_v2_unet": vividzoo.animatediff,
    "animate3d_unet": vividzoo.animate3d,
} | triposplat.CHECKS

DEFAULT_MAX_ABS = 1e-4  # for outputs that a fixture gives no tolerance of their own


@dataclass(frozen=True)
class Row:
    """How far one output of ours is from the reference."""

    name: str
    max_abs: float
    mean_abs: float
    max_allowed: float
    mean_allowed: float | None

    @property
    def passed(self) -> bool:
        # "not greater" would let NaN through.
        return self.max_abs <= self.max_allowed and (
            self.mean_allowed is None or self.mean_abs <= self.mean_allowed
        )

    def __str__(self) -> str:
        mean_allowed = "" if self.mean_allowed is None else f"{self.mean_allowed:.1e}"
        verdict = "" if self.passed else "  FAILED"
        return f"{self.max_abs:9.1e} {self.max_allowed:9.1e} {self.mean_abs:9.1e} {mean_allowed:>9}{verdict}"


def compare(path: Path) -> list[Row]:
    """One row per reference output of a fixture.

    Raises:
        ValueError: nothing here knows the fixture, or an output is missing or of another shape.
    """
    fixture = load_fixture(path)
    known = [name for name in CHECKS if fixture.name.startswith(name)]
    if not known:
        raise ValueError(f"unknown fixture {fixture.name!r}; known: {', '.join(sorted(CHECKS))}")
    expected = {name: tensor for name, tensor in fixture.tensors.items() if not _is_input(name)}
    with torch.no_grad():
        outputs = CHECKS[max(known, key=len)](fixture)
    missing = (set(expected) | set(fixture.tolerance)) - set(outputs) - {"*"}
    if missing:
        raise ValueError(f"our side does not compute {', '.join(sorted(missing))}")
    return [_row(fixture, name, outputs[name], tensor) for name, tensor in sorted(expected.items())]


def _is_input(name: str) -> bool:
    return name.endswith((".in", ".pose")) or bool(triposplat.INPUTS.fullmatch(name))


def _row(fixture: Fixture, name: str, ours: Tensor, reference: Tensor) -> Row:
    if ours.shape != reference.shape:
        raise ValueError(f"{name}: ours is {list(ours.shape)}, the reference {list(reference.shape)}")
    difference = (ours.double() - reference.double()).abs()
    allowed = (
        fixture.tolerance.get(name)
        or fixture.tolerance.get("*")
        or triposplat.tolerance(fixture.name, name, reference)
        or {"max_abs": DEFAULT_MAX_ABS}
    )
    return Row(
        name,
        difference.max().item(),
        difference.mean().item(),
        allowed["max_abs"],
        allowed.get("mean_abs"),
    )
