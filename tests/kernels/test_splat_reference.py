"""The readable renderer is right: against a loop over splats, its gradients against finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from kernels import rasterization
from kernels.spherical_harmonics import view_dependent_colors
from tests.kernels.splat_scenes import as_leaves, cameras, shell

SIZE = {"width": 16, "height": 16}


def one_pixel(
    scene: dict[str, Tensor], camera: dict[str, Tensor], row: int, column: int
) -> tuple[Tensor, float]:
    """A pixel's colour and alpha by the textbook, one splat after another, without tiles or culling."""
    view, K = camera["viewmats"][0], camera["Ks"][0]
    seen = []
    for n in range(len(scene["means"])):
        x, y, z = (view[:3, :3] @ scene["means"][n] + view[:3, 3]).tolist()
        w, i, j, k = (scene["quats"][n] / scene["quats"][n].norm()).tolist()
        rotation = torch.tensor(
            [
                [1 - 2 * (j * j + k * k), 2 * (i * j - w * k), 2 * (i * k + w * j)],
                [2 * (i * j + w * k), 1 - 2 * (i * i + k * k), 2 * (j * k - w * i)],
                [2 * (i * k - w * j), 2 * (j * k + w * i), 1 - 2 * (i * i + j * j)],
            ],
            dtype=view.dtype,
        )
        cov = rotation @ torch.diag(scene["scales"][n] ** 2) @ rotation.T
        fx, fy = K[0, 0].item(), K[1, 1].item()
        J = torch.tensor([[fx / z, 0, -fx * x / z**2], [0, fy / z, -fy * y / z**2]], dtype=view.dtype)
        cov2d = J @ view[:3, :3] @ cov @ view[:3, :3].T @ J.T + 0.3 * torch.eye(2, dtype=view.dtype)
        centre = torch.tensor([fx * x / z + K[0, 2].item(), fy * y / z + K[1, 2].item()], dtype=view.dtype)
        offset = torch.tensor([column + 0.5, row + 0.5], dtype=view.dtype) - centre
        power = (-0.5 * offset @ torch.linalg.inv(cov2d) @ offset).item()
        seen.append((z, n, min(0.99, scene["opacities"][n].item() * math.exp(power))))
    color, light = torch.zeros(3, dtype=view.dtype), 1.0
    for _, n, alpha in sorted(seen):
        if alpha >= 1 / 255:
            if light * (1 - alpha) <= 1e-4:
                break
            color += scene["colors"][n] * alpha * light
            light *= 1 - alpha
    return color, 1 - light


def test_reference_equals_a_loop_over_splats():
    scene, camera = shell(60), cameras(1, **SIZE)
    scene["opacities"] = scene["opacities"].clamp_min(0.5)  # so that pixels close
    scene, camera = ({k: v.double() for k, v in d.items()} for d in (scene, camera))
    image, alphas, _ = rasterization(**scene, **camera, **SIZE, backend="torch")
    for row, column in [(0, 0), (3, 7), (8, 8), (9, 2), (15, 15), (12, 5)]:
        color, alpha = one_pixel(scene, camera, row, column)
        torch.testing.assert_close(image[0, row, column], color, rtol=0, atol=1e-12)
        assert alphas[0, row, column].item() == pytest.approx(alpha, abs=1e-12)


@pytest.mark.parametrize(
    ("mode", "model"), [("classic", "pinhole"), ("antialiased", "pinhole"), ("classic", "ortho")]
)
def test_reference_passes_gradcheck(mode, model):
    # Large and neither faint nor opaque: no pixel is near a threshold, where there is no derivative.
    size = {"width": 7, "height": 5}  # every number of the image is differentiated
    scene, camera = as_leaves(shell(8), torch.float64), as_leaves(cameras(1, **size), torch.float64)
    with torch.no_grad():
        scene["scales"].mul_(0.5).add_(0.6)
        scene["opacities"].mul_(0.2).add_(0.3)

    if model == "ortho":
        camera["Ks"][:, :2, :2] /= 3.2

    def render(means, quats, scales, opacities, colors, viewmats):
        return rasterization(
            means, quats, scales, opacities, colors, viewmats, camera["Ks"], **size,
            render_mode="RGB+D", rasterize_mode=mode, camera_model=model, backend="torch",
        )[:2]  # fmt: skip

    assert torch.autograd.gradcheck(render, (*scene.values(), camera["viewmats"]), eps=1e-7, atol=1e-5)


def test_spherical_harmonics_are_orthonormal_and_have_the_known_signs():
    g = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(
        torch.randn(200_000, 3, generator=g, dtype=torch.float64), dim=-1
    )
    rows = []
    for k in range(16):
        coefficients = torch.zeros(16, 3, dtype=torch.float64)
        coefficients[k] = 0.1
        rows.append((view_dependent_colors(3, directions, coefficients)[:, 0] - 0.5) / 0.1)
    basis = torch.stack(rows)
    gram = basis @ basis.T / len(directions) * 4 * math.pi
    torch.testing.assert_close(gram, torch.eye(16, dtype=torch.float64), rtol=0, atol=0.03)
    axes = torch.eye(3, dtype=torch.float64)  # 3DGS: -y, z, -x in the first degree
    signs = [[0, 0, -1], [-1, 0, 0], [0, 1, 0]]
    for axis, expected in zip(axes, signs, strict=True):
        values = []
        for k in range(1, 4):
            coefficients = torch.zeros(4, 3, dtype=torch.float64)
            coefficients[k] = 1
            values.append(view_dependent_colors(1, axis, coefficients * 0.1)[0].item() - 0.5)
        assert values == pytest.approx([0.04886025 * s for s in expected], abs=1e-6)
