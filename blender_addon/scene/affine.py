"""Which map has moved points."""

from __future__ import annotations

import numpy as np

_FLAT = 1e-3  # of their longest extent: points thinner than this say nothing of the direction across


def fit(before: np.ndarray, after: np.ndarray) -> np.ndarray:  # [N, 3], [N, 3] -> [4, 4]
    """The map that takes points to points: affine, or where they are too few or flat, the similar one."""
    middle, there = before.mean(0), after.mean(0)
    source, target = before - middle, after - there
    axes, squares, _ = np.linalg.svd(source.T @ source)
    sizes = np.sqrt(squares)
    rank = int((sizes > _FLAT * max(sizes[0], 1e-30)).sum()) if sizes[0] > 0 else 0
    linear = np.eye(3)
    if rank == 3:
        linear = np.linalg.lstsq(source, target, rcond=None)[0].T
    elif rank:
        size = np.sqrt((target**2).sum() / (source**2).sum())
        if rank == 2:
            left, _, right = np.linalg.svd(target.T @ source)  # Kabsch 1976
            turn = left @ np.diag([1, 1, np.sign(np.linalg.det(left @ right))]) @ right
        else:
            turn = _shortest_turn(axes[:, 0], target.T @ (source @ axes[:, 0]))
        linear = turn * size
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = linear, there - linear @ middle
    return matrix


def _shortest_turn(a: np.ndarray, b: np.ndarray) -> np.ndarray:  # [3], [3] -> [3, 3]
    """The smallest rotation that takes one direction to another."""
    b = b / max(np.linalg.norm(b), 1e-30)
    axis, cosine = np.cross(a, b), float(a @ b)
    if cosine < -1 + 1e-12:
        across = np.cross(a, np.eye(3)[np.abs(a).argmin()])
        across /= np.linalg.norm(across)
        return 2 * np.outer(across, across) - np.eye(3)
    skew = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + skew + skew @ skew / (1 + cosine)
