"""Gaussian splats moved, turned, mirrored and stretched, spherical harmonics included."""

from __future__ import annotations

import numpy as np

from .ply import GaussianCloud
from .protocol import DioramaError

# From a file's axes to Blender's (Z up): what splat files call up.
UPS = {
    "Z": np.eye(3),
    "Y": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
    "-Y": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
}
_CHUNK = 1 << 17  # splats at a time, so that what is computed between does not fill the memory


def turned(cloud: GaussianCloud, matrix: np.ndarray) -> GaussianCloud:
    """The cloud in other axes: `matrix` [3, 3] has lengths of one, and may mirror."""
    whole = np.eye(4)
    whole[:3, :3] = matrix
    return transformed(cloud, whole)


def transformed(cloud: GaussianCloud, target_from_source: np.ndarray) -> GaussianCloud:
    """The cloud that looks as the given one does after an affine transform.

    A Gaussian stays a Gaussian under every affine transform. Colours that depend on the direction of view
    turn along; where a shear leaves no right angles, they turn as the closest rotation does.

    Args:
        target_from_source: [4, 4].

    Raises:
        DioramaError: E_REQUEST for a transform that is not finite.
    """
    if not np.isfinite(target_from_source).all():
        raise DioramaError(
            "E_REQUEST",
            "the transform holds numbers that are not finite",
            "Set the location, rotation and scale of the object, or what drives them.",
        )
    linear, offset = (np.asarray(part, np.float64) for part in np.split(target_from_source[:3], [3], axis=1))
    if np.array_equal(linear, np.eye(3)) and not offset.any():
        return cloud
    means = (cloud.means @ linear.T + offset[:, 0]).astype(np.float32)
    quats, scales = shapes(linear, cloud.quats, cloud.scales)
    return GaussianCloud(
        means=means,
        quats=quats,
        scales=scales,
        opacities=cloud.opacities,
        sh=turned_harmonics(cloud.sh, turn_of_directions(linear)),
    )


def shapes(
    linear: np.ndarray,  # [3, 3]
    quats: np.ndarray,  # [N, 4] w x y z
    scales: np.ndarray,  # [N, 3]
) -> tuple[np.ndarray, np.ndarray]:
    """Rotations and sizes of splats after a linear map L: their covariance C becomes L C L^T."""
    left, stretch, right = np.linalg.svd(linear)
    if stretch[0] - stretch[2] <= 1e-5 * stretch[0]:
        turn = left @ right
        proper = turn * np.sign(np.linalg.det(turn))  # an ellipsoid looks the same upside down
        turned_quats = _product(quaternions(proper[None])[0], quats.astype(np.float64))
        return turned_quats.astype(np.float32), (scales * stretch.mean()).astype(np.float32)
    out_quats, out_scales = np.empty(quats.shape, np.float32), np.empty(scales.shape, np.float32)
    for start in range(0, len(quats), _CHUNK):
        rows = slice(start, start + _CHUNK)
        axes = linear @ (rotations(quats[rows]) * scales[rows, None, :].astype(np.float64))
        directions, sizes, _ = np.linalg.svd(axes)
        directions *= np.sign(np.linalg.det(directions))[:, None, None]
        out_quats[rows] = quaternions(directions)
        out_scales[rows] = np.maximum(sizes, 1e-30)  # flat, still a splat
    return out_quats, out_scales


def turn_of_directions(linear: np.ndarray) -> np.ndarray:
    """How directions of view turn under a linear map, [3, 3] orthogonal.

    By the axes' own directions where these stay at right angles, else as the closest rotation does (the
    orthogonal part of the polar decomposition, perhaps mirrored).
    """
    axes = linear / np.maximum(np.linalg.norm(linear, axis=0), 1e-30)
    left, _, right = np.linalg.svd(linear)
    return axes if np.allclose(axes.T @ axes, np.eye(3), atol=1e-6) else left @ right


def rotations(quats: np.ndarray) -> np.ndarray:
    """Unit quaternions w x y z [N, 4] as matrices [N, 3, 3]."""
    w, x, y, z = np.asarray(quats, np.float64).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), -1, 0)


def quaternions(matrices: np.ndarray) -> np.ndarray:
    """Rotation matrices [N, 3, 3] as unit quaternions w x y z [N, 4] (Shepperd 1978: never near a zero)."""
    m = np.asarray(matrices, np.float64)
    xx, yy, zz = m[:, 0, 0], m[:, 1, 1], m[:, 2, 2]
    squares = np.stack([xx + yy + zz, xx - yy - zz, yy - xx - zz, zz - xx - yy], axis=1)  # 4 q² - 1
    products = np.empty((len(m), 4, 4))
    products[:, range(4), range(4)] = squares + 1
    for (a, b), value in {
        (0, 1): m[:, 2, 1] - m[:, 1, 2],
        (0, 2): m[:, 0, 2] - m[:, 2, 0],
        (0, 3): m[:, 1, 0] - m[:, 0, 1],
        (1, 2): m[:, 0, 1] + m[:, 1, 0],
        (1, 3): m[:, 0, 2] + m[:, 2, 0],
        (2, 3): m[:, 1, 2] + m[:, 2, 1],
    }.items():
        products[:, a, b] = products[:, b, a] = value
    best = products[np.arange(len(m)), squares.argmax(axis=1)]
    return best / np.linalg.norm(best, axis=1, keepdims=True)


def turned_harmonics(sh: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Spherical harmonics [N, K, 3] turned by an orthogonal matrix [3, 3].

    Each degree is a space of its own that turning does not leave, so the matrix that turns it is found by
    looking at enough directions, before and after.
    """
    degree = round(sh.shape[1] ** 0.5) - 1
    if degree == 0 or np.array_equal(turn, np.eye(3)):
        return sh
    index = np.arange(64) + 0.5
    height, angle = 1 - index / 32, index * np.pi * (1 + 5**0.5)  # a spiral around the sphere
    flat = np.sqrt(1 - height**2)
    directions = np.stack([flat * np.cos(angle), flat * np.sin(angle), height], axis=1)
    before, after = harmonics(directions @ turn), harmonics(directions)
    out = sh.copy()
    for band in range(1, degree + 1):
        part = slice(band**2, (band + 1) ** 2)
        matrix = np.linalg.lstsq(after[:, part], before[:, part], rcond=None)[0]
        matrix[np.abs(matrix) < 1e-12] = 0
        for start in range(0, len(sh), _CHUNK):
            rows = slice(start, start + _CHUNK)
            out[rows, part] = matrix.astype(np.float32) @ sh[rows, part]
    return out


def harmonics(directions: np.ndarray) -> np.ndarray:
    """Real spherical harmonics to degree 3, as 3DGS orders and signs them: [N, 3] -> [N, 16]."""
    x, y, z = directions.T
    xx, yy, zz = x * x, y * y, z * z
    return np.stack(
        [
            np.full_like(x, 0.28209479177387814),
            -0.4886025119029199 * y,
            0.4886025119029199 * z,
            -0.4886025119029199 * x,
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.31539156525252005 * (2 * zz - xx - yy),
            -1.0925484305920792 * x * z,
            0.5462742152960396 * (xx - yy),
            -0.5900435899266435 * y * (3 * xx - yy),
            2.890611442640554 * x * y * z,
            -0.4570457994644658 * y * (4 * zz - xx - yy),
            0.3731763325901154 * z * (2 * zz - 3 * xx - 3 * yy),
            -0.4570457994644658 * x * (4 * zz - xx - yy),
            1.445305721320277 * z * (xx - yy),
            -0.5900435899266435 * x * (xx - 3 * yy),
        ],
        axis=-1,
    )


def _product(turn: np.ndarray, quats: np.ndarray) -> np.ndarray:
    """Quaternions turned further: [4], [N, 4] -> [N, 4]."""
    w, x, y, z = turn
    matrix = np.array([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]])
    return quats @ matrix.T
