"""Which clips are not worth training on: those in which nothing moves, and those that leave the picture.

Source: Vivid-ZOO (arXiv 2406.08659), appendix D. There the second kind was sorted out by hand.
"""

from __future__ import annotations

import numpy as np

STILL = 0.01  # mean change of the object's pixels from the first frame, 0..1; less is no motion
AWAY = 0.05  # share of the object beyond the frame in the worst view and frame; more is a runaway


def motion(frames: np.ndarray) -> float:  # [F, H, W, 4] sRGB, straight alpha
    """How much one view changes: the largest mean difference to its first frame, over the object's pixels."""
    weighted = frames.copy()
    weighted[..., :3] *= frames[..., 3:]
    covered = frames[..., 3].max(0) > 0  # [H, W]
    if not covered.any():
        return 0.0
    change = np.abs(weighted - weighted[0])[:, covered]  # [F, P, 4]
    return float(change.mean((1, 2)).max())


def dropped(moved: float, away: float) -> str | None:
    """Why a clip is dropped, or None. The arguments: `motion`, and the worst share beyond the frame."""
    if away > AWAY:
        return f"runaway: {away:.0%} of it leaves the frame (at most {AWAY:.0%})"
    if moved < STILL:
        return f"static: its pixels change by {moved:.4f} (at least {STILL})"
    return None
