"""Wraps a mesh in an image: a place in the image for every face, and colours from photos of the object."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import xatlas
from scipy.ndimage import distance_transform_edt
from scipy.spatial import KDTree
from torch import Tensor
from torch.nn.functional import max_pool2d

from .photos import Photo, sample

_SHARPNESS = 4  # power of the cosine between surface and sight: photos from the front outweigh others
_ENOUGH = 0.05  # of that weight: what the views see with less is filled up from the renders


def unwrap(
    vertices: np.ndarray,  # [N, 3]
    faces: np.ndarray,  # [M, 3]
    normals: np.ndarray,  # [N, 3]
    texture_px: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cuts the surface open and lays it flat with xatlas.

    Returns:
        origins [K]: the vertex that each of the new ones was, faces [M, 3] of the new ones, and their
        places uv [K, 2] in the texture, 0..1 from its top left.
    """
    packing = xatlas.PackOptions()
    packing.resolution = texture_px
    packing.padding = 2  # texels between charts, so that blurred sampling does not mix them
    packing.bilinear = True
    atlas = xatlas.Atlas()
    atlas.add_mesh(vertices.astype(np.float32), faces.astype(np.uint32), normals.astype(np.float32))
    atlas.generate(xatlas.ChartOptions(), packing)
    origins, faces, uv = atlas[0]
    return origins.astype(np.int64), faces.astype(np.int64), uv


def texels(uv: np.ndarray, faces: np.ndarray, size_px: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The texels whose centres lie in a face.

    Returns:
        index [T] of the texel in the flattened texture, face [T], and barycentric coordinates [T, 3].
    """
    corners = (uv * size_px).astype(np.float64)[faces]  # [M, 3, 2]
    low = np.ceil(corners.min(1) - 0.5).astype(np.int64).clip(0, size_px)
    high = np.floor(corners.max(1) - 0.5).astype(np.int64).clip(-1, size_px - 1)
    columns, rows = (high - low + 1).clip(0).T
    count = columns * rows
    face = np.repeat(np.arange(len(faces)), count)
    within = np.arange(len(face)) - np.repeat(np.cumsum(count) - count, count)
    x = low[face, 0] + within % columns[face]
    y = low[face, 1] + within // columns[face]

    a, b, c = corners[face].transpose(1, 0, 2)
    ab, ac, ap = b - a, c - a, np.stack([x + 0.5, y + 0.5], -1) - a
    area = _cross(ab, ac)
    with np.errstate(divide="ignore", invalid="ignore"):  # faces without an area have no texels
        second, third = _cross(ap, ac) / area, _cross(ab, ap) / area
        inside = (second >= 0) & (third >= 0) & (second + third <= 1)
    bary = np.stack([1 - second - third, second, third], -1)[inside]
    return (y * size_px + x)[inside], face[inside], bary


@torch.no_grad()
def painted(
    vertices: np.ndarray,  # [N, 3]
    normals: np.ndarray,  # [N, 3]
    faces: np.ndarray,  # [M, 3]
    uv: np.ndarray,  # [N, 2] from the top left
    texture_px: int,
    views: Iterable[Photo],
    renders: Iterable[Photo],
    reach_m: float,
) -> np.ndarray:  # [S, S, 3] uint8 sRGB
    """The texture of an unwrapped mesh; the arguments are those of `bake`."""
    index, face, bary = texels(uv, faces, texture_px)
    points, directions = (
        torch.from_numpy(np.einsum("tc,tcx->tx", bary, values[faces[face]])).float()
        for values in (vertices, normals)
    )
    directions = torch.nn.functional.normalize(directions, dim=-1)
    texture = np.zeros((texture_px**2, 3), np.uint8)
    filled = np.zeros(texture_px**2, bool)
    texture[index] = np.rint(bake(points, directions, views, renders, reach_m).numpy() * 255)
    filled[index] = True
    # Between the charts every texel is like the nearest one in a chart, so that no seam shows.
    rows, columns = distance_transform_edt(
        ~filled.reshape(texture_px, texture_px), return_distances=False, return_indices=True
    )
    return texture.reshape(texture_px, texture_px, 3)[rows, columns]


def bake(
    points: Tensor,  # [T, 3] where the texels are on the object
    normals: Tensor,  # [T, 3]
    views: Iterable[Photo],
    renders: Iterable[Photo],
    reach_m: float,
) -> Tensor:  # [T, 3] sRGB
    """Colours of texels: from the views that see them, else from renders, else those of the nearest texel.

    Args:
        reach_m: how far a texel may lie behind what a photo shows and still be taken for it.
    """
    sums = torch.zeros(len(points), 4)  # red, green, blue, weight
    for photo in views:
        sums += _seen(photo, points, normals, reach_m)
    poor = (sums[:, 3] < _ENOUGH).nonzero()[:, 0]
    if len(poor):
        more = torch.zeros(len(poor), 4)
        for photo in renders:
            more += _seen(photo, points[poor], normals[poor], reach_m)
        missing = _ENOUGH - sums[poor, 3:]
        sums[poor] += missing * more / more[:, 3:].clamp_min(1e-6)
    colors = sums[:, :3] / sums[:, 3:].clamp_min(1e-6)
    blind = sums[:, 3] < 1e-6
    if blind.any() and not blind.all():
        nearest = KDTree(points[~blind].numpy()).query(points[blind].numpy())[1]
        colors[blind] = colors[~blind][torch.from_numpy(nearest)]
    return colors.clamp(0, 1)


def _seen(photo: Photo, points: Tensor, normals: Tensor, reach_m: float) -> Tensor:  # [T, 4]
    """Colour times weight, and weight, of what a photo sees of each point; 0 where it sees nothing of it."""
    where, depth = photo.project(points)
    facing = (normals * photo.towards(points)).sum(-1).clamp(0, 1)
    rgba = sample(photo.rgba, where)
    # At an outline pixels mix the object with what is beside it: the worst of the neighbours counts.
    least_alpha = -max_pool2d(-photo.rgba[None, ..., 3], 2 * photo.blur_px + 1, 1, photo.blur_px)
    nearest = -max_pool2d(-photo.depth[None], 2 * photo.blur_px + 1, 1, photo.blur_px)
    least_alpha, nearest = sample(torch.cat([least_alpha, nearest]).movedim(0, -1), where, "nearest").T
    slope = (1 - facing**2).sqrt() / facing.clamp_min(0.2)
    allowed = reach_m + (photo.blur_px + 1) * photo.pixel_m(depth) * slope
    weight = facing**_SHARPNESS * least_alpha * (depth < nearest + allowed) * (depth > 0)
    return (
        torch.cat([rgba[:, :3] / rgba[:, 3:].clamp_min(1e-6), torch.ones_like(depth)[:, None]], -1)
        * (weight[:, None])
    )


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
