"""A few splats that cannot be shown: the others are read, and it is said how many were left out."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from backend.shared import splat_formats
from backend.shared.ply import read_ply
from backend.shared.protocol import DioramaError
from backend.shared.request import GenerationRequest
from backend.shared.sequence_file import read_sequence, sequence_size
from backend.shared.splat_transform import transformed
from tests.shared.clouds import make_cloud
from tests.shared.test_asset import GOOD_FIELDS, GOOD_ROW, ply_header


def write(path: Path, *changes: tuple[int, int, float]) -> None:
    """Ten good splats with some values (row, column, value) changed."""
    table = np.tile(np.array(GOOD_ROW, "<f4"), (10, 1))
    for row, column, value in changes:
        table[row, column] = value
    path.write_bytes(ply_header(GOOD_FIELDS, 10) + table.tobytes())


@pytest.mark.parametrize(
    ("changes", "left", "words"),
    [
        (((3, 0, np.nan),), 9, "1 of 10 splats were left out: they have means that are not finite"),
        (((5, 10, 0.0),), 9, "a rotation of length zero"),
        (((1, 7, 300.0), (1, 0, np.inf), (2, 3, np.nan)), 8, "2 of 10 splats were left out"),
    ],
)
def test_others_are_read(tmp_path: Path, changes: tuple, left: int, words: str) -> None:
    write(tmp_path / "a.ply", *changes)
    said: list[str] = []
    cloud = read_ply(tmp_path / "a.ply", said.append)
    assert len(cloud) == left and np.isfinite(cloud.quats).all()
    assert len(said) == 1 and words in said[0]
    with pytest.raises(DioramaError):
        read_ply(tmp_path / "a.ply")


def test_file_without_a_good_splat_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.ply", *((row, 10, 0.0) for row in range(10)))
    with pytest.raises(DioramaError, match="there are no splats"):
        read_ply(tmp_path / "a.ply", print)


def test_mesh_in_ascii_is_called_a_mesh(tmp_path: Path) -> None:
    header = ply_header("x y z", 1, "ascii")
    header = header.replace(b"end_header", b"element face 1\nproperty list uchar int i\nend_header")
    (tmp_path / "mesh.ply").write_bytes(header + b"0 0 0\n")
    with pytest.raises(DioramaError, match="is a mesh"):
        read_ply(tmp_path / "mesh.ply")


def test_prompt_with_half_a_character_is_refused() -> None:
    with pytest.raises(DioramaError, match="half a character"):
        GenerationRequest("a red \ud83c mushroom")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such pipes")
@pytest.mark.parametrize(
    "read", [read_ply, read_sequence, sequence_size, splat_formats.format_of, splat_formats.count_of]
)
def test_pipes_are_not_waited_for(tmp_path: Path, read: Callable[[Path], object]) -> None:
    os.mkfifo(tmp_path / "a.ply")
    for path in (tmp_path / "a.ply", Path("/dev/zero")):
        with pytest.raises(DioramaError, match="is a pipe or a device") as refused:
            read(path)
        assert refused.value.code == "E_PLY"


def test_transforms_that_are_not_finite_are_refused() -> None:
    with pytest.raises(DioramaError, match="not finite"):
        transformed(make_cloud(3), np.full((4, 4), np.nan))
