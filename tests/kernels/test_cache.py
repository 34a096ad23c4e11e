"""Compiled kernels are kept for all copies of the same sources, and never used by other sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
USE = """
import numpy as np
from kernels.numba.tiling import sort_by_depth
depths, counts = np.float32([2, 1, 3]), np.ones(3, np.int32)
order, keys, other_order, other_keys = (np.zeros(3, dtype) for dtype in (np.int32, np.uint32) * 2)
sort_by_depth(depths, counts, order, keys, other_order, other_keys)
print(order.tolist(), sum(sort_by_depth.stats.cache_hits.values()))
"""


def use(folder: Path, cache: Path) -> str:
    result = subprocess.run(
        [sys.executable, "-c", USE],
        cwd=folder,
        env={**os.environ, "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.strip()


def test_copies_of_the_sources_share_what_is_compiled(tmp_path: Path) -> None:
    copies = [tmp_path / "first", tmp_path / "second"]
    for copy in copies:
        shutil.copytree(ROOT / "kernels", copy / "kernels")
    assert [use(copy, tmp_path / "cache") for copy in copies] == ["[1, 0, 2] 0", "[1, 0, 2] 1"]
    inlined = copies[1] / "kernels/stages.py"  # not the file of the function itself
    inlined.write_text(inlined.read_text("utf-8") + "\n# changed\n", "utf-8")
    assert use(copies[1], tmp_path / "cache") == "[1, 0, 2] 0"
