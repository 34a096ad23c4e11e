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
from kernels.numba.tiling import start_tiles  # the one that compiles soonest
offsets = np.zeros(2, np.int64)
start_tiles(np.ones((1, 2), np.int64), 3, offsets)
print(offsets.tolist(), sum(start_tiles.stats.cache_hits.values()))
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
    assert [use(copy, tmp_path / "cache") for copy in copies] == ["[3, 4] 0", "[3, 4] 1"]
    inlined = copies[1] / "kernels/stages.py"  # not the file of the function itself
    inlined.write_text(inlined.read_text("utf-8") + "\n# changed\n", "utf-8")
    assert use(copies[1], tmp_path / "cache") == "[3, 4] 0"
