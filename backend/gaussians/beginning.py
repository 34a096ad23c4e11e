"""Where a fit to a capture begins: how large its world is, and a first cloud of Gaussians in it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..cameras import opencv_from_world
from ..shared.ply import SH_C0, GaussianCloud
from ..shared.protocol import DioramaError
from .capture import Capture, View, every_view

_GRID = 64  # cells of a side in which the visual hull is looked for
_MASK_PX = 128  # silhouettes are made this small, and never thinner


def extent(capture: Capture) -> tuple[Tensor, float]:
    """The middle [3] of what a capture shows, and its radius in metres.

    Raises:
        DioramaError: E_CAPTURE if its cameras see nothing in common.
    """
    if capture.points is not None and not capture.has_alpha:
        low, high = np.quantile(capture.points, [0.05, 0.95], axis=0)
        radius = float(np.linalg.norm(high - low)) / 2
        if radius > 0:
            return torch.from_numpy((low + high) / 2).float(), radius
    views = list(every_view(capture))
    center = _looked_at(views)
    away = torch.stack([(view.camera[:3, 3] - center).norm() for view in views])
    if not capture.has_alpha:
        radius = float(away.mean())
        return center, max(radius, 1e-6)
    edges = torch.tensor([max(view.size_px) / 2 / float(view.K[0, 0]) for view in views])
    reach = float((away * edges).max())
    some = capture.frames[:: max(1, len(capture.frames) // 4)]
    grid, inside, _ = _hull(some, center, max(reach, 1e-6))
    found = grid[inside]
    middle = (found.amin(0) + found.amax(0)) / 2
    return middle, float((found - middle).norm(dim=-1).max()) + 2 * reach / _GRID


def first_cloud(
    capture: Capture,  # of the unit ball
    count: int,
    sh_degree: int,
    generator: torch.Generator,
) -> GaussianCloud:
    """Gaussians on the skin of the visual hull, at sparse points, or anywhere in the frustums."""
    views = capture.frames[0]
    colors = None
    if capture.has_alpha:
        means = _on_hull(views, count, generator)
    elif capture.points is not None:
        chosen = torch.randperm(len(capture.points), generator=generator)[:count].numpy()
        means = torch.from_numpy(capture.points[chosen]).float()
        colors = None if capture.colors is None else torch.from_numpy(capture.colors[chosen])
    else:
        means = _in_frustums(views, count, generator)
    colors = _seen_colors(means, views) if colors is None else colors
    from scipy.spatial import cKDTree

    near, _ = cKDTree(means.numpy()).query(means.numpy(), k=min(4, len(means)))
    spacing = np.clip(near[:, 1:].mean(1) if len(means) > 1 else np.ones(1), 1e-4, 0.2)
    sh = np.zeros((len(means), (sh_degree + 1) ** 2, 3), np.float32)
    sh[:, 0] = (colors.numpy() - 0.5) / SH_C0
    return GaussianCloud(
        means=means.numpy().astype(np.float32),
        quats=np.tile(np.array([1, 0, 0, 0], np.float32), (len(means), 1)),
        scales=np.repeat(0.6 * spacing[:, None], 3, 1).astype(np.float32),
        opacities=np.full(len(means), 0.5 if capture.has_alpha else 0.1, np.float32),
        sh=sh,
    )


def project(points: Tensor, view: View) -> tuple[Tensor, Tensor]:  # [N, 3] -> [N, 2], [N]
    """Where a view sees points, from -1 to 1 between its edges, and how far ahead they are."""
    camera_from_world = opencv_from_world(view.camera)
    seen = points @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]
    pixels = seen[:, :2] / seen[:, 2:].clamp_min(1e-9) * view.K[[0, 1], [0, 1]] + view.K[:2, 2]
    height, width = view.size_px
    return pixels / pixels.new_tensor([width, height]) * 2 - 1, seen[:, 2]


def _looked_at(views: list[View]) -> Tensor:  # [3]
    """The point nearest to the axes of all cameras; ahead of them if these are parallel."""
    origins = torch.stack([view.camera[:3, 3] for view in views]).double()
    axes = -torch.stack([view.camera[:3, 2] for view in views]).double()
    across = torch.eye(3).double() - axes[:, :, None] * axes[:, None, :]
    matrix = across.mean(0)
    away = (origins - origins.mean(0)).norm(dim=-1).mean()
    if float(torch.linalg.eigvalsh(matrix)[0]) < 1e-3:
        return (origins.mean(0) + 2 * max(float(away), 1e-3) * axes.mean(0)).float()
    return torch.linalg.solve(matrix, (across @ origins[..., None]).mean(0))[:, 0].float()


def _hull(
    moments: list[list[View]], center: Tensor, reach: float
) -> tuple[Tensor, Tensor, float]:  # [G, 3], [G], metres
    """The cells of a cube that no silhouette of their moment excludes, and their size.

    Raises:
        DioramaError: E_CAPTURE.
    """
    axis = (torch.arange(_GRID) + 0.5) / _GRID * 2 - 1
    grid = center + reach * torch.cartesian_prod(axis, axis, axis)
    anywhere = torch.zeros(len(grid), dtype=torch.bool)
    for views in moments:
        inside = torch.ones(len(grid), dtype=torch.bool)
        seen = torch.zeros(len(grid), dtype=torch.int32)
        for view in views:
            where, ahead = project(grid, view)
            within = (where.abs() <= 1).all(-1) & (ahead > 0)
            alpha = view.rgba[..., 3].float()[None, None] / 255
            small = [min(_MASK_PX, side) for side in view.size_px]
            mask = torch.nn.functional.adaptive_max_pool2d(alpha, small)
            mask = torch.nn.functional.max_pool2d(mask, 3, 1, 1)
            found = torch.nn.functional.grid_sample(mask, where[None, None], align_corners=False).flatten()
            inside &= ~within | (found > 0.1)
            seen += within.int()
        # near a camera, few others see a cell and could exclude it
        anywhere |= inside & (seen >= max(2, len(views) / 2))
    if not anywhere.any():
        raise DioramaError(
            "E_CAPTURE",
            "the silhouettes of the images have nothing in common",
            "Are these their cameras? transforms.json has camera-to-world matrices, -Z ahead and +Y up.",
        )
    return grid, anywhere, 2 * reach / _GRID


def _on_hull(views: list[View], count: int, generator: torch.Generator) -> Tensor:  # [N, 3]
    grid, inside, step = _hull([views], torch.zeros(3), 1.05)
    solid = inside.reshape(1, 1, *(_GRID,) * 3).float()
    skin = inside & (torch.nn.functional.avg_pool3d(solid, 3, 1, 1, count_include_pad=True).flatten() < 1)
    cells = grid[skin]
    chosen = cells[torch.randint(len(cells), (count,), generator=generator)]
    return chosen + step * (torch.rand(count, 3, generator=generator) - 0.5)


def _in_frustums(views: list[View], count: int, generator: torch.Generator) -> Tensor:  # [N, 3]
    """Points ahead of the cameras, from a tenth of the radius of the world to its three radii."""
    which = torch.randint(len(views), (count,), generator=generator)
    places = torch.rand(count, 2, generator=generator)
    depth = 0.1 * 30 ** torch.rand(count, generator=generator)
    means = torch.empty(count, 3)
    for i, view in enumerate(views):
        mine = which == i
        height, width = view.size_px
        pixels = places[mine] * torch.tensor([width, height])
        flat = (pixels - view.K[:2, 2]) / view.K[[0, 1], [0, 1]]
        in_camera = torch.stack([flat[:, 0], -flat[:, 1], -torch.ones(len(flat))], -1) * depth[mine, None]
        means[mine] = in_camera @ view.camera[:3, :3].T + view.camera[:3, 3]
    return means


def _seen_colors(means: Tensor, views: list[View]) -> Tensor:  # [N, 3] sRGB
    """What the views show where the points are, on average."""
    total, weight = torch.zeros(len(means), 3), torch.full((len(means), 1), 1e-6)
    for view in views[:: max(1, len(views) // 24)]:
        where, ahead = project(means, view)
        image = view.rgba.float().movedim(-1, 0)[None] / 255
        found = torch.nn.functional.grid_sample(image, where[None, None], align_corners=False)[0, :, 0].T
        share = found[:, 3:] * (ahead > 0)[:, None]
        total += found[:, :3] * share
        weight += share
    return torch.where(weight > 1e-3, total / weight, 0.5).clamp(0, 1)
