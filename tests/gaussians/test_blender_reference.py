"""The reference that Blender's renders are compared with shows what our rasteriser shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import kernels
from tests.blender.splat_reference import psnr, srgb_to_linear
from tests.blender.splat_reference import render as reference
from tests.shared.test_asset import make_cloud

SIZE, FOV_DEG = 48, 40.0


@pytest.mark.parametrize("blending", ["linear", "display"])
def test_reference_of_the_blender_tests_equals_the_kernels(blending):
    cloud = make_cloud(200)
    cloud.means[:] *= 0.3
    cloud.scales[:] *= 0.05
    cloud.sh[:] *= 0.3
    pose = np.eye(4)
    pose[:3, 3] = (0.1, -0.2, 2.5)  # looks down -Z at the cloud
    colours = np.maximum(0.5 + 0.28209479177387814 * cloud.sh[:, 0], 0)
    if blending == "linear":
        colours = srgb_to_linear(colours)
    focal = SIZE / 2 / np.tan(np.radians(FOV_DEG) / 2)
    intrinsics = [[focal, 0, SIZE / 2], [0, focal, SIZE / 2], [0, 0, 1]]
    opencv_from_blender = np.diag([1.0, -1.0, -1.0, 1.0])
    image, _, _ = kernels.rasterization(
        *(torch.tensor(values) for values in (cloud.means, cloud.quats, cloud.scales, cloud.opacities)),
        torch.tensor(colours, dtype=torch.float32),
        torch.tensor(opencv_from_blender @ np.linalg.inv(pose), dtype=torch.float32)[None],
        torch.tensor(intrinsics, dtype=torch.float32)[None],
        SIZE,
        SIZE,
    )
    expected = reference(cloud, pose, SIZE, SIZE, pixel=1 / focal, blending=blending)
    assert image.max() > 0.2
    assert psnr(image[0].numpy(), expected) > 70
