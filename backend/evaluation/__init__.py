"""Measures how good results are: `python -m backend evaluate ASSET …`."""

from __future__ import annotations


def main(argv: list[str]) -> int:
    """Runs what the first argument names: a command of its own, or asset folders. Returns the exit code."""
    from . import assets

    return assets.main(argv)
