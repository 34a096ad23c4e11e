"""Our networks, cameras, samplers and 3D-aware step give what the published ones gave."""

from __future__ import annotations

from pathlib import Path

import pytest

from .compare import CHECKS, compare

DATA = Path(__file__).parents[1] / "data" / "parity"
SLOW = {"videomv_3d_aware_step_t2v", "videomv_3d_aware_step_i2v"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in CHECKS]
)
def test_outputs_equal_the_published_ones(name: str) -> None:
    rows = compare(DATA / f"{name}.safetensors")
    assert rows
    assert not [f"{row.name}: {row}" for row in rows if not row.passed]
