"""Runs Python where one folder is a disk of a few KiB, for tests of what happens when it is full."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run_on_small_disk(folder: Path, kib: int, code: str, *arguments: str) -> str:
    """What the code prints, whose `sys.argv[1]` is the folder; skips where there can be no such disk."""
    alone = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount = f'mount -t tmpfs -o size={kib}k tmpfs "$0" && '
    try:
        subprocess.run([*alone, mount + "true", str(folder)], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no disk can be mounted here: {error}")
    ran = subprocess.run(
        [*alone, mount + 'exec "$@"', str(folder), sys.executable, "-c", code, str(folder), *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout
