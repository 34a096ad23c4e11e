"""Our networks, cameras, samplers and 3D-aware step give what the published ones gave."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import triposplat
from .compare import CHECKS, compare

DATA = Path(__file__).parents[1] / "data" / "parity"
SLOW = {"videomv_3d_aware_step_t2v", "videomv_3d_aware_step_i2v"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
        for name in CHECKS
        if name not in triposplat.CHECKS
    ],
)
def test_outputs_equal_the_published_ones(name: str) -> None:
    _check(DATA / f"{name}.safetensors")


@pytest.mark.parametrize(
    "path", sorted((DATA / "triposplat").glob("*.safetensors")), ids=lambda path: path.stem
)
def test_triposplat_gives_what_its_authors_classes_gave(path: Path) -> None:
    _check(path)


def test_every_check_of_triposplat_has_a_fixture() -> None:
    names = [path.stem for path in (DATA / "triposplat").glob("*.safetensors")]
    assert all(any(name.startswith(check) for name in names) for check in triposplat.CHECKS)


def _check(path: Path) -> None:
    rows = compare(path)
    assert rows
    assert not [f"{row.name}: {row}" for row in rows if not row.passed]
