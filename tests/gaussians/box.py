"""A box of splats, and its mesh for the tests in Blender: `python -m tests.gaussians.box` writes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from backend.shared.ply import SH_C0, GaussianCloud

GLB = Path(__file__).parents[1] / "data" / "box.glb"
SIDES = np.array([[0.6, 0.2, 0.35], [-0.3, -0.2, -0.15]])  # farthest and nearest corner: no two sides alike


def box() -> GaussianCloud:
    """Red towards +X, green towards +Y, blue towards +Z, and black on the other sides."""
    rng = np.random.default_rng(1)
    axis, far = np.repeat([0, 1, 2], 1200), rng.integers(0, 2, 3600)
    means = rng.uniform(SIDES[1], SIDES[0], (3600, 3))
    means[np.arange(3600), axis] = np.where(far, SIDES[0][axis], SIDES[1][axis])
    color = 0.1 + 0.8 * np.eye(3)[axis] * far[:, None]
    return GaussianCloud(
        means=means.astype(np.float32),
        quats=np.tile(np.float32([1, 0, 0, 0]), (3600, 1)),
        scales=np.full((3600, 3), 0.015, np.float32),
        opacities=np.full(3600, 0.95, np.float32),
        sh=((color - 0.5) / SH_C0).astype(np.float32)[:, None],
    )


def mesh_of_box() -> bytes:
    """The box as the backend makes meshes, small."""
    import torch  # the tests in Blender have none

    from backend.gaussians import meshing

    no_views, no_cameras = torch.zeros(0, 4, 1, 1), torch.zeros(0, 4, 4)
    mesh = meshing.mesh_from_gaussians(
        box(), no_views, no_cameras, 40.0, resolution=48, face_count=1500, texture_px=128
    )
    return meshing.glb_of(mesh)


if __name__ == "__main__":
    GLB.write_bytes(mesh_of_box())
