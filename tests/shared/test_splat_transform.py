"""Transformed splats look from the moved camera as they did before, whatever the transform."""

from __future__ import annotations

import numpy as np
import pytest

from backend.shared.splat_transform import UPS, quaternions, rotations, transformed, turned
from tests.blender.splat_reference import psnr, render
from tests.shared.clouds import make_cloud

POSE = np.array([[1.0, 0, 0, 0.1], [0, 1, 0, 0], [0, 0, 1, 2.6], [0, 0, 0, 1]])
TURN = rotations(np.array([[0.8, 0.2, -0.4, 0.4]]))[0]
PLACED = {
    "turned and grown": 1.3 * TURN,
    "mirrored": TURN @ np.diag([1.0, 1.0, -1.0]),
    "stretched": TURN @ np.diag([0.5, 1.0, 2.0]),
}


@pytest.mark.parametrize("kind", PLACED)
def test_splats_look_the_same_in_the_object_and_transformed(kind):
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = PLACED[kind], (0.2, -0.1, 0.3)
    cloud = make_cloud(120, degree=3)
    camera = {"width": 48, "height": 48, "pixel": 1 / 48, "dilation": 0.3}
    expected = render(cloud, POSE, world_from_object=matrix, **camera)
    assert psnr(render(transformed(cloud, matrix), POSE, **camera), expected) > 90
    assert psnr(render(cloud, POSE, **camera), expected) < 40  # the transform shows


@pytest.mark.parametrize("up", UPS)
def test_axes_are_changed_and_changed_back(up):
    cloud = make_cloud(500, degree=3)
    back = turned(turned(cloud, UPS[up]), UPS[up].T)
    for name, values in vars(cloud).items():
        np.testing.assert_allclose(getattr(back, name), values, atol=2e-6)
    np.testing.assert_array_equal(back.means, cloud.means)


def test_half_turns_have_quaternions_too():
    quats = np.array([[0.0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [1e-9, 0.6, 0.8, 0]])
    np.testing.assert_allclose(rotations(quaternions(rotations(quats))), rotations(quats), atol=1e-9)
