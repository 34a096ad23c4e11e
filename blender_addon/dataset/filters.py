"""Which clips are not worth training on: what does not move or leaves the image, and most that is plain.

Source: Vivid-ZOO (arXiv 2406.08659), appendix D. There those that leave the image were sorted out by hand.
"""

from __future__ import annotations

import zlib

import numpy as np

STILL = 0.01  # mean change of the object's pixels from the first frame, 0..1; less is no motion
AWAY = 0.05  # share of the object beyond the frame in the worst view and frame; more is a runaway
PLAIN = 0.1  # share of the objects without any texture that is kept


def keeps_plain(name: str, seed: int, share: float) -> bool:
    """Whether an object without texture is one of those that are kept; always the same for name and seed."""
    return bool(np.random.default_rng([seed, zlib.crc32(f"plain {name}".encode())]).uniform() < share)


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
