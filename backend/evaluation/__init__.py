"""Measures how good results are: `python -m backend evaluate ASSET …`, and our models: `evaluate starter`."""

from __future__ import annotations


def main(argv: list[str]) -> int:
    """Runs what the first argument names: a command of its own, or asset folders. Returns the exit code."""
    if argv[:1] == ["starter"]:
        from ..starter import evaluate_views

        return evaluate_views.main(argv[1:])
    if argv[:1] == ["starter-motion"]:
        from ..starter import evaluate_motion

        return evaluate_motion.main(argv[1:])
    from . import assets

    return assets.main(argv)
