"""The splat renderer written for reading: plain torch, any float type, every step differentiable.

The other backends are faster spellings of the two functions here, `project` and `rasterize`, and
are tested against them. Projection: Zwicker et al., EWA Splatting (2001); compositing: Kerbl et al., 3D
Gaussian Splatting (2023); conventions: gsplat. Gradients come from autograd.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from .stages import ALPHA_MIN, BLUR_SIGMAS, TILE, TRANSMITTANCE_MIN, Camera, Projected


def project(
    means: Tensor,  # [B, N, 3]
    quats: Tensor,  # [B, N, 4] wxyz, any length
    scales: Tensor,  # [B, N, 3]
    opacities: Tensor,  # [B, N]
    viewmats: Tensor,  # [B, C, 4, 4] OpenCV world to camera
    Ks: Tensor,  # [B, C, 3, 3]
    camera: Camera,
) -> Projected:
    """Projects 3D Gaussians to 2D Gaussians in every image, B * C = I images in all."""
    B, C = viewmats.shape[:2]
    N = means.shape[1]
    rotation, translation = viewmats[..., :3, :3], viewmats[..., :3, 3]
    in_camera = torch.einsum("bcij,bnj->bcni", rotation, means) + translation[:, :, None]
    z = in_camera[..., 2]
    visible = (z >= camera.near) & (z <= camera.far)
    x, y, z = (torch.where(visible, v, 1.0) for v in in_camera.unbind(-1))  # no division by what is not seen

    fx, fy, cx, cy = (Ks[..., i, j, None] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))  # [B, C, 1]
    shrink = z if camera.perspective else torch.ones_like(z)
    means2d = torch.stack([fx * x / shrink + cx, fy * y / shrink + cy], -1)

    # The perspective map is replaced by its tangent at the splat, taken no farther out than 0.3 of
    # the half image outside the frame: beyond, the tangent would blow the splat up.
    def tangent_at(ratio: Tensor, focal: Tensor, centre: Tensor, size: int) -> Tensor:
        margin = 0.3 * 0.5 * size / focal
        return torch.minimum(torch.maximum(ratio, -centre / focal - margin), (size - centre) / focal + margin)

    zero = torch.zeros_like(z)
    u = tangent_at(x / z, fx, cx, camera.width) if camera.perspective else zero
    v = tangent_at(y / z, fy, cy, camera.height) if camera.perspective else zero
    row_x, row_y = [fx / shrink, zero, -fx * u / shrink], [zero, fy / shrink, -fy * v / shrink]
    jacobian = torch.stack([torch.stack(row_x, -1), torch.stack(row_y, -1)], -2)
    axes = rotations(quats) * scales[..., None, :]
    covariance = axes @ axes.mT  # [B, N, 3, 3]
    T = jacobian @ rotation[:, :, None]  # [B, C, N, 2, 3]
    sharp = T @ covariance[:, None] @ T.mT
    xx, xy, yy = sharp[..., 0, 0] + camera.eps2d, sharp[..., 0, 1], sharp[..., 1, 1] + camera.eps2d
    determinant = xx * yy - xy * xy
    visible = visible & (determinant > 0)
    determinant = torch.where(visible, determinant, 1.0)
    sharp_determinant = sharp[..., 0, 0] * sharp[..., 1, 1] - xy * xy
    ratio = torch.where(visible, sharp_determinant / determinant, 0.0)
    compensations = torch.where(ratio > 0, torch.where(ratio > 0, ratio, 1.0).sqrt(), 0.0)
    conics = torch.stack([yy, -xy, xx], -1) / determinant[..., None]

    with torch.no_grad():
        reach = torch.sqrt(2 * torch.log((opacities / ALPHA_MIN).clamp_min(1.0))).clamp_max(BLUR_SIGMAS)
        radii = torch.ceil(reach[:, None, :, None] * torch.stack([xx, yy], -1).clamp_min(0).sqrt())
        size = means2d.new_tensor([camera.width, camera.height])
        visible = visible & (opacities >= ALPHA_MIN)[:, None] & (radii > camera.radius_clip).any(-1)
        visible = visible & ((means2d + radii > 0) & (means2d - radii < size)).all(-1)
        radii = torch.where(visible[..., None], radii, 0.0).int()

    def seen(value: Tensor) -> Tensor:
        mask = visible.reshape(visible.shape + (1,) * (value.dim() - 3))
        return torch.where(mask, value, 0.0).reshape(B * C, N, *value.shape[3:])

    return Projected(seen(means2d), seen(conics), seen(z), seen(compensations), radii.reshape(B * C, N, 2))


def rotations(quats: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] of quaternions [..., 4] (w, x, y, z) of any length but 0."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, -1).reshape(*quats.shape[:-1], 3, 3)


@torch.no_grad()
def intersect(projected: Projected, opacities: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """Lists for every tile the splats that reach it, nearest first.

    Args:
        opacities: [I, N] after any compensation; with the conics they say how far a splat is seen.

    Returns:
        offsets: [I, tiles_y, tiles_x] int32, where a tile's list starts.
        flatten_ids: [M] int32, the lists one after another; entries are image * N + splat.
    """
    a, b, c = projected.conics.unbind(-1)
    visible = (projected.radii > 0).all(-1) & (opacities >= ALPHA_MIN)
    determinant = torch.where(visible, a * c - b * b, 1.0)
    reach = torch.sqrt(2 * torch.log((opacities / ALPHA_MIN).clamp_min(1.0))).clamp_max(BLUR_SIGMAS)
    half = reach[..., None] * torch.sqrt(torch.stack([c, a], -1) / determinant[..., None])
    last = torch.tensor([camera.width, camera.height], device=a.device) - 1
    first_px = torch.ceil(projected.means2d - half - 0.5).clamp_min(0).long()  # pixel centres lie at + 0.5
    last_px = torch.minimum(torch.floor(projected.means2d + half - 0.5).clamp_min(-1).long(), last)
    visible = visible & (first_px <= last_px).all(-1)
    low, high = first_px // TILE, last_px // TILE + 1
    columns, rows = torch.where(visible[..., None], high - low, 0).unbind(-1)

    I, N = visible.shape
    count = (columns * rows).flatten()
    ids = torch.repeat_interleave(torch.arange(I * N, device=a.device), count)
    within = torch.arange(len(ids), device=a.device) - (count.cumsum(0) - count)[ids]
    x = low[..., 0].flatten()[ids] + within % columns.flatten()[ids]
    y = low[..., 1].flatten()[ids] + within // columns.flatten()[ids]
    tile = (ids // max(N, 1) * camera.tiles_y + y) * camera.tiles_x + x
    near_first = torch.argsort(projected.depths.flatten()[ids], stable=True)
    order = near_first[torch.argsort(tile[near_first], stable=True)]
    tiles = I * camera.tiles_y * camera.tiles_x
    offsets = torch.searchsorted(tile[order].contiguous(), torch.arange(tiles, device=a.device))
    return offsets.int().reshape(I, camera.tiles_y, camera.tiles_x), ids[order].int()


def rasterize(
    projected: Projected,
    colors: Tensor,  # [G, N, D], each shared by I / G images
    opacities: Tensor,  # [I, N]
    camera: Camera,
    max_alpha: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Composites the 2D Gaussians front to back: c = sum of color * alpha * light that still comes through.

    Returns:
        colors [I, H, W, D], alphas [I, H, W], and the tiles' lists as `intersect` returns them.
    """
    offsets, flatten_ids = intersect(projected, opacities, camera)
    starts = [*offsets.flatten().tolist(), len(flatten_ids)]
    means2d, conics = projected.means2d.flatten(0, 1), projected.conics.flatten(0, 1)
    flat_colors = colors.repeat_interleave(len(opacities) // len(colors), 0).flatten(0, 1)
    flat_opacities = opacities.flatten()
    y, x = torch.meshgrid(*(torch.arange(TILE, device=colors.device) + 0.5,) * 2, indexing="ij")
    corner = torch.stack([x.flatten(), y.flatten()], -1).to(means2d)  # [TILE * TILE, 2]

    patches, lights = [], []
    for tile, (start, stop) in enumerate(pairwise(starts)):
        row, column = divmod(tile % (camera.tiles_x * camera.tiles_y), camera.tiles_x)
        ids = flatten_ids[start:stop].long()
        pixels = corner + corner.new_tensor([column * TILE, row * TILE])
        dx, dy = (means2d[ids][:, None] - pixels).unbind(-1)  # [K, TILE * TILE]
        a, b, c = conics[ids, :, None].unbind(1)
        alpha = flat_opacities[ids, None] * torch.exp(-0.5 * (a * dx * dx + c * dy * dy) - b * dx * dy)
        alpha = torch.where(alpha >= ALPHA_MIN, alpha.clamp_max(max_alpha), 0.0)
        open_before_stop = torch.cumprod(1 - alpha, 0) > TRANSMITTANCE_MIN
        alpha = torch.where(open_before_stop, alpha, 0.0)
        light = torch.cat([corner.new_ones(1, TILE * TILE), torch.cumprod(1 - alpha, 0)])
        patches.append((alpha * light[:-1]).T @ flat_colors[ids])
        lights.append(light[-1])

    def assemble(tiles: list[Tensor], channels: int) -> Tensor:
        grid = torch.stack(tiles).reshape(-1, camera.tiles_y, camera.tiles_x, TILE, TILE, channels)
        image = grid.permute(0, 1, 3, 2, 4, 5).reshape(
            -1, camera.tiles_y * TILE, camera.tiles_x * TILE, channels
        )
        return image[:, : camera.height, : camera.width]

    return assemble(patches, colors.shape[-1]), 1 - assemble(lights, 1)[..., 0], offsets, flatten_ids
