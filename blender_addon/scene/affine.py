"""Splats moved, turned, scaled, sheared and mirrored: their places, shapes and harmonics; and which map moved
them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..backend.shared.ply import GaussianCloud
from .colour_nodes import harmonic_basis

_SIMILAR = 1e-5  # of a map's size: below this, its axes count as equally long and perpendicular
_FLAT = 1e-3  # of their longest extent: points thinner than this say nothing of the direction across


def transformed(cloud: GaussianCloud, matrix: np.ndarray) -> GaussianCloud:  # [4, 4]
    """The cloud as an object with that matrix shows it in the world."""
    if np.array_equal(matrix, np.eye(4)):
        return cloud
    linear = matrix[:3, :3]
    quats, scales = shapes(linear, cloud.quats, cloud.scales)
    means = cloud.means.astype(np.float64) @ linear.T + matrix[:3, 3]
    return replace(
        cloud, means=means.astype(np.float32), quats=quats, scales=scales, sh=harmonics(linear, cloud.sh)
    )


def shapes(
    linear: np.ndarray,  # [3, 3]
    quats: np.ndarray,  # [N, 4] w x y z
    scales: np.ndarray,  # [N, 3]
) -> tuple[np.ndarray, np.ndarray]:
    """Rotations and sizes of splats after a linear map: their covariance C becomes L C L^T."""
    linear = linear.astype(np.float64)
    if np.allclose(linear, np.eye(3), atol=1e-9):
        return quats, scales
    size = np.sqrt((linear**2).sum() / 3)
    if np.allclose(linear @ linear.T, size**2 * np.eye(3), atol=_SIMILAR * size**2):
        turn = linear * np.sign(np.linalg.det(linear)) / size  # a mirrored ellipsoid is the turned one
        quats = _product(_quaternions(turn[None])[0], quats.astype(np.float64))
        return _unit(quats), (scales * size).astype(np.float32)
    axes = linear @ (_matrices(quats.astype(np.float64)) * scales[:, None, :].astype(np.float64))
    turns, sizes, _ = np.linalg.svd(axes)
    turns[..., 2] *= np.sign(np.linalg.det(turns))[:, None]
    return _unit(_quaternions(turns)), np.maximum(sizes, 1e-30).astype(np.float32)


def harmonics(linear: np.ndarray, sh: np.ndarray) -> np.ndarray:  # [3, 3], [N, K, 3] -> [N, K, 3]
    """Spherical harmonics after a linear map: seen from a direction as before from the direction turned back.

    Of the map, only what turns and mirrors counts. Each degree maps to itself, so its matrix is solved for
    from some directions (as many as are independent, and more).
    """
    left, _, right = np.linalg.svd(linear.astype(np.float64))
    turn = left @ right
    if sh.shape[1] < 4 or np.allclose(turn, np.eye(3), atol=1e-9):
        return sh
    rng = np.random.default_rng(0)
    after = rng.normal(size=(64, 3))
    after /= np.linalg.norm(after, axis=1, keepdims=True)
    bases = [np.stack(harmonic_basis(*points.T), axis=1) for points in (after, after @ turn)]  # [64, 15]
    turned = sh.copy()
    for first, last in ((0, 3), (3, 8), (8, 15)):
        if last < sh.shape[1]:
            matrix = np.linalg.lstsq(bases[0][:, first:last], bases[1][:, first:last], rcond=None)[0]
            turned[:, first + 1 : last + 1] = np.einsum("ij,njc->nic", matrix, sh[:, first + 1 : last + 1])
    return turned


def fit(before: np.ndarray, after: np.ndarray) -> np.ndarray:  # [N, 3], [N, 3] -> [4, 4]
    """The map that takes points to points: affine, or where they are too few or flat, the similar one."""
    middle, there = before.mean(0), after.mean(0)
    source, target = before - middle, after - there
    _, sizes, axes = np.linalg.svd(source, full_matrices=True)
    sizes = np.pad(sizes, (0, 3))[:3]
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
            turn = _shortest_turn(axes[0], target.T @ (source @ axes[0]))
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


def _unit(quats: np.ndarray) -> np.ndarray:
    return (quats / np.linalg.norm(quats, axis=1, keepdims=True)).astype(np.float32)


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:  # [4], [N, 4] -> [N, 4]
    w, x, y, z = a
    left = np.array([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]])
    return b @ left.T


def _matrices(quats: np.ndarray) -> np.ndarray:  # [N, 4] -> [N, 3, 3]
    w, x, y, z = quats.T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), -1, 0)


def _quaternions(turns: np.ndarray) -> np.ndarray:  # [N, 3, 3] -> [N, 4] w x y z
    """Of rotation matrices (Bar-Itzhack 2000, by the largest of the four squares)."""
    m = turns
    xx, yy, zz = m[:, 0, 0], m[:, 1, 1], m[:, 2, 2]
    x, y, z = m[:, 2, 1] - m[:, 1, 2], m[:, 0, 2] - m[:, 2, 0], m[:, 1, 0] - m[:, 0, 1]
    xy, xz, yz = m[:, 0, 1] + m[:, 1, 0], m[:, 0, 2] + m[:, 2, 0], m[:, 1, 2] + m[:, 2, 1]
    columns = np.stack(  # each is the quaternion times four times one of its parts
        [
            np.stack([1 + xx + yy + zz, x, y, z], -1),
            np.stack([x, 1 + xx - yy - zz, xy, xz], -1),
            np.stack([y, xy, 1 - xx + yy - zz, yz], -1),
            np.stack([z, xz, yz, 1 - xx - yy + zz], -1),
        ],
        axis=1,
    )  # [N, 4, 4]
    largest = np.einsum("nii->ni", columns).argmax(1)
    return np.asarray(columns[np.arange(len(m)), largest])
