"""Gaussian splatting in plain numpy, float64: what Blender's renders are compared with.

Written from the papers (Zwicker et al. 2001; Kerbl et al. 2023), pixel by pixel, without the nodes' algebra.
"""

from __future__ import annotations

import numpy as np


def srgb_to_linear(c):
    c = np.maximum(c, 0)
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(c):
    c = np.clip(c, 0, 1)
    return np.where(c <= 0.0031308, c * 12.92, 1.055 * c ** (1 / 2.4) - 0.055)


def psnr(a, b):
    return 10 * np.log10(1 / np.mean((a - b) ** 2))


def rotations(quats):  # [N, 4] w x y z -> [N, 3, 3]
    w, x, y, z = quats.T.astype(np.float64)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), -1, 0)


def harmonics(directions):
    """Real spherical harmonics to degree 3, as 3DGS orders and signs them: [N, 3] -> [N, 16]."""
    x, y, z = directions.T
    xx, yy, zz = x * x, y * y, z * z
    pi = np.pi
    return np.stack(
        [
            np.full_like(x, np.sqrt(1 / (4 * pi))),
            -np.sqrt(3 / (4 * pi)) * y,
            np.sqrt(3 / (4 * pi)) * z,
            -np.sqrt(3 / (4 * pi)) * x,
            np.sqrt(15 / (4 * pi)) * x * y,
            -np.sqrt(15 / (4 * pi)) * y * z,
            np.sqrt(5 / (16 * pi)) * (2 * zz - xx - yy),
            -np.sqrt(15 / (4 * pi)) * x * z,
            np.sqrt(15 / (16 * pi)) * (xx - yy),
            -np.sqrt(35 / (32 * pi)) * y * (3 * xx - yy),
            np.sqrt(105 / (4 * pi)) * x * y * z,
            -np.sqrt(21 / (32 * pi)) * y * (4 * zz - xx - yy),
            np.sqrt(7 / (16 * pi)) * z * (2 * zz - 3 * xx - 3 * yy),
            -np.sqrt(21 / (32 * pi)) * x * (4 * zz - xx - yy),
            np.sqrt(105 / (16 * pi)) * z * (xx - yy),
            -np.sqrt(35 / (32 * pi)) * x * (xx - 3 * yy),
        ],
        axis=-1,
    )


def render(
    cloud,
    world_from_camera,
    width,
    height,
    *,
    pixel,  # width of a pixel at distance 1; in metres if orthographic
    aspect=1.0,  # height of a pixel by its width
    world_from_object=None,
    shift=(0.0, 0.0),  # of the picture's centre, in pixels
    orthographic=False,
    blending="linear",
    dilation=0.3,
    background=0.0,
):
    """Splat by splat, front to back.

    Returns:
        [height, width, 3], linear light if blending is "linear", else display values.
    """
    world_from_object = np.eye(4) if world_from_object is None else world_from_object
    camera_from_object = np.linalg.inv(world_from_camera) @ world_from_object
    centres = cloud.means.astype(np.float64) @ camera_from_object[:3, :3].T + camera_from_object[:3, 3]
    depth = -centres[:, 2]
    axes = camera_from_object[:3, :3] @ (rotations(cloud.quats) * cloud.scales[:, None, :].astype(np.float64))
    covariances = axes @ axes.transpose(0, 2, 1)  # [N, 3, 3] camera space

    middle = np.array([width / 2 - shift[0], height / 2 + shift[1]])
    count = len(cloud)
    jacobians = np.zeros((count, 2, 3))
    if orthographic:
        centres_px = middle + centres[:, :2] * [1, -1] / pixel
        jacobians[:, 0, 0], jacobians[:, 1, 1] = 1 / pixel, -1 / pixel
    else:
        centres_px = middle + centres[:, :2] * [1, -1] / (pixel * depth[:, None])
        half = np.array([width, height * aspect]) * pixel / 2
        offset = np.array(shift) * pixel
        slope = np.clip(centres[:, :2] / depth[:, None], offset - 1.3 * half, offset + 1.3 * half)
        jacobians[:, 0, 0] = 1 / (pixel * depth)
        jacobians[:, 1, 1] = -1 / (pixel * depth)
        jacobians[:, 0, 2] = slope[:, 0] / (pixel * depth)
        jacobians[:, 1, 2] = -slope[:, 1] / (pixel * depth)
    centres_px[:, 1] = middle[1] + (centres_px[:, 1] - middle[1]) / aspect
    jacobians[:, 1] /= aspect
    conics = np.linalg.inv(jacobians @ covariances @ jacobians.transpose(0, 2, 1) + dilation * np.eye(2))

    turn = world_from_object[:3, :3] / np.linalg.norm(world_from_object[:3, :3], axis=0)
    world_centres = cloud.means @ world_from_object[:3, :3].T + world_from_object[:3, 3]
    directions = (world_centres - world_from_camera[:3, 3]) @ turn
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    basis = harmonics(directions)[:, : cloud.sh.shape[1]]
    colours = np.maximum(0.5 + np.einsum("nk,nkc->nc", basis, cloud.sh.astype(np.float64)), 0)
    if blending == "linear":
        colours = srgb_to_linear(colours)

    grid = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=-1)
    image = np.zeros((height, width, 3))
    transmittance = np.ones((height, width, 1))
    for i in np.argsort(depth):
        if depth[i] < 0.01:
            continue
        d = grid - centres_px[i]
        alpha = cloud.opacities[i] * np.exp(-0.5 * np.einsum("hwi,ij,hwj->hw", d, conics[i], d))
        alpha = np.where(alpha > 1 / 255, np.minimum(alpha, 0.99), 0)[..., None]
        image += transmittance * alpha * colours[i]
        transmittance *= 1 - alpha
    return image + transmittance * background
