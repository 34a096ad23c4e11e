"""Splat rendering on the processor: the compiled kernels, spread over threads and joined to autograd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..stages import Camera, Projected
from . import projection, raster, tiling
from .threads import in_parts, on_threads

_SPLATS_PER_PART = 4096

Array = np.ndarray[Any, Any]


def _numpy(*tensors: Tensor) -> list[Array]:
    # Copied by numpy where they must be: torch's threads spin after their work, on the cores that ours need.
    return [np.ascontiguousarray(tensor.detach().numpy()) for tensor in tensors]


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx, means, quats, scales, opacities, viewmats, Ks, camera):
        B, C = viewmats.shape[:2]
        N = means.shape[1]
        means_, quats_, scales_, opacities_, viewmats_, Ks_ = _numpy(
            means, quats, scales, opacities, viewmats, Ks
        )
        covs = np.empty((B, N, 6), np.float32)
        outputs: list[Array] = [np.zeros((B, C, N, *shape), np.float32) for shape in ((2,), (3,), (), ())]
        outputs.append(np.zeros((B, C, N, 2), np.int32))
        planes = camera.near, camera.far, camera.radius_clip, camera.eps2d
        lens = [*map(np.float32, (camera.width, camera.height, *planes)), camera.perspective]

        def part(first: int, last: int) -> None:
            for b in range(B):
                projection.covariances(first, last, quats_[b], scales_[b], covs[b])
                for c in range(C):
                    projection.project(
                        first, last, means_[b], covs[b], opacities_[b], viewmats_[b, c], Ks_[b, c], *lens,
                        *(output[b, c] for output in outputs),
                    )  # fmt: skip

        in_parts(part, N, _SPLATS_PER_PART)
        ctx.save_for_backward(means, quats, scales, viewmats, Ks)
        ctx.covs, ctx.outputs, ctx.camera = covs, outputs, camera
        results = tuple(torch.from_numpy(output).flatten(0, 1) for output in outputs)
        ctx.mark_non_differentiable(results[-1])
        return results

    @staticmethod
    @once_differentiable
    def backward(ctx, v_means2d, v_conics, v_depths, v_compensations, _):
        means, quats, scales, viewmats, Ks = _numpy(*ctx.saved_tensors)
        _, conics, _, compensations, radii = ctx.outputs
        B, C, N = radii.shape[:3]
        v_outputs = [
            v.reshape(B, C, N, *v.shape[2:]) for v in _numpy(v_means2d, v_conics, v_depths, v_compensations)
        ]
        v_means, v_covs = np.zeros((B, N, 3), np.float32), np.zeros((B, N, 6), np.float32)
        v_quats, v_scales = np.empty_like(quats), np.empty_like(scales)
        blocks = -(-N // _SPLATS_PER_PART)  # not a matter of threads: the sums for v_viewmats need one order
        v_views = np.zeros((blocks, B, C, 4, 4))
        size = ctx.camera.width, ctx.camera.height
        lens = [*map(np.float32, (*size, ctx.camera.eps2d)), ctx.camera.perspective]

        def part(first_block: int, last_block: int) -> None:
            for at in range(first_block, last_block):
                first, last = at * _SPLATS_PER_PART, min((at + 1) * _SPLATS_PER_PART, N)
                for b in range(B):
                    for c in range(C):
                        projection.project_adjoint(
                            first, last, means[b], ctx.covs[b], viewmats[b, c], Ks[b, c], *lens,
                            conics[b, c], compensations[b, c], radii[b, c], *(v[b, c] for v in v_outputs),
                            v_means[b], v_covs[b], v_views[at, b, c],
                        )  # fmt: skip
                    projection.covariances_adjoint(
                        first, last, quats[b], scales[b], v_covs[b], v_quats[b], v_scales[b]
                    )

        in_parts(part, blocks, 1)
        v_viewmats = v_views.sum(0).astype(np.float32)
        gradients = [torch.from_numpy(v) for v in (v_means, v_quats, v_scales, v_viewmats)]
        return *gradients[:3], None, gradients[3], None, None


def project(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    camera: Camera,
) -> Projected:
    """`reference.project` in float32, with its adjoint written by hand."""
    return Projected(*_Project.apply(means, quats, scales, opacities, viewmats, Ks, camera))


@dataclass(frozen=True)
class _Lists:
    """`reference.intersect`'s result, and more that the rasteriser and its adjoint need."""

    splats: Array  # [I * N, FIELDS]
    starts: Array  # [tiles + 1] int64, where each tile's list starts, over all images
    ids: Array  # [M] int32, image * N + splat
    slots: Array  # [M] int32, where a list entry's gradients go
    begins: Array  # [I, N] int64, where the slots of a splat begin
    counts: Array  # [I, N] int32, how many they are


def _intersect(
    camera: Camera, means2d: Array, conics: Array, depths: Array, opacities: Array, radii: Array
) -> _Lists:
    """`reference.intersect` on arrays: which splats each tile shows, in the order of their depth."""
    I, N = depths.shape
    tiles = camera.tiles_x * camera.tiles_y
    splats = np.empty((I, N, tiling.FIELDS), np.float32)
    boxes, counts = np.empty((I, N, 4), np.int32), np.empty((I, N), np.int32)
    # Few images on many threads: an image's splats are listed in several parts, one after another.
    parts = max(1, min(torch.get_num_threads() // max(I, 1), N // 4096))
    histograms = np.zeros((I, parts, tiles), np.int64)
    order = np.empty((I, N), np.int32)
    seen = [0] * I

    def prepare(first: int, last: int) -> None:
        for i in range(I):
            tiling.prepare(
                first, last, means2d[i], conics[i], opacities[i], radii[i], camera.width, camera.height,
                splats[i], boxes[i], counts[i],
            )  # fmt: skip

    def sort(first: int, last: int) -> None:
        scratch = np.empty(N, np.uint32), np.empty(N, np.int32), np.empty(N, np.uint32)
        for i in range(first, last):
            seen[i] = tiling.sort_by_depth(depths[i], counts[i], order[i], *scratch)

    def each_part(function: Callable[[int, int, int, int], None]) -> None:
        def run(first: int, last: int) -> None:
            for job in range(first, last):
                i, part = divmod(job, parts)
                function(i, part, seen[i] * part // parts, seen[i] * (part + 1) // parts)

        in_parts(run, I * parts, 1)

    in_parts(prepare, N, _SPLATS_PER_PART)
    in_parts(sort, I, 1)
    each_part(
        lambda i, part, first, last: tiling.count_tiles(
            order[i], first, last, boxes[i], camera.tiles_x, histograms[i, part]
        )
    )
    starts = np.empty(I * tiles + 1, np.int64)
    total = 0
    for i in range(I):
        total = tiling.start_tiles(histograms[i], total, starts[i * tiles :])
    starts[-1] = total
    begins = (np.cumsum(counts, dtype=np.int64) - counts.ravel()).reshape(I, N)
    ids, slots = np.empty(total, np.int32), np.empty(total, np.int32)
    each_part(
        lambda i, part, first, last: tiling.fill_tiles(
            order[i], first, last, boxes[i], camera.tiles_x, histograms[i, part], begins[i], i * N, ids, slots
        )
    )
    return _Lists(splats.reshape(I * N, tiling.FIELDS), starts, ids, slots, begins, counts)


def _channels(count: int) -> tuple[int, ...] | Array:
    """The channels' numbers: few as a tuple, whose length the compiler knows and unrolls by."""
    return tuple(range(count)) if count <= 4 else np.arange(count)


def _scene(lists: _Lists, colors: Array, camera: Camera, max_alpha: float) -> tuple[Any, ...]:
    """The arguments that the rasteriser and its adjoint share."""
    G, _, D = colors.shape
    size, grid = (camera.width, camera.height), (camera.tiles_x, camera.tiles_y)
    images_per_color = len(lists.counts) // G
    return (
        lists.splats, colors, images_per_color, _channels(D), lists.starts, lists.ids,
        size, grid, np.float32(max_alpha),
    )  # fmt: skip


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, means2d, conics, colors, opacities, depths, radii, camera, max_alpha):
        lists = _intersect(camera, *_numpy(means2d, conics, depths, opacities, radii))
        scene = _scene(lists, _numpy(colors)[0], camera, max_alpha)
        I, D = len(depths), colors.shape[-1]
        image = np.empty((I, camera.height, camera.width, D), np.float32)
        alphas = np.empty((I, camera.height, camera.width), np.float32)

        turns = np.zeros(1, np.int64)
        on_threads(lambda: raster.rasterize(turns, *scene, image, alphas), len(lists.starts) - 1)
        results = torch.from_numpy(image), torch.from_numpy(alphas)
        ctx.save_for_backward(
            conics, opacities, colors, *results
        )  # the adjoint starts from the final colours
        ctx.lists, ctx.camera, ctx.max_alpha = lists, camera, max_alpha
        offsets = torch.from_numpy(lists.starts[:-1].astype(np.int32)).reshape(
            I, camera.tiles_y, camera.tiles_x
        )
        ids = torch.from_numpy(lists.ids)
        ctx.mark_non_differentiable(offsets, ids)
        return *results, offsets, ids

    @staticmethod
    @once_differentiable
    def backward(ctx, v_image, v_alphas, _offsets, _ids):
        conics, opacities, colors, *images = _numpy(*ctx.saved_tensors, v_image, v_alphas)
        lists: _Lists = ctx.lists
        scene = _scene(lists, colors, ctx.camera, ctx.max_alpha)
        I, N = opacities.shape
        G, _, D = colors.shape
        moments = np.zeros((len(lists.ids), raster.MOMENTS + D), np.float32)
        v_means2d, v_conics = np.zeros((I, N, 2), np.float32), np.zeros((I, N, 3), np.float32)
        v_opacities, v_colors = np.zeros((I, N), np.float32), np.zeros((G, N, D), np.float32)

        turns = np.zeros(1, np.int64)

        def tiles() -> None:
            raster.rasterize_adjoint(turns, *scene, *images, lists.slots, moments)

        def splats(first: int, last: int) -> None:
            raster.gather_moments(
                first, last, I // G, conics, opacities, lists.counts, lists.begins, moments,
                v_means2d, v_conics, v_opacities, v_colors,
            )  # fmt: skip

        on_threads(tiles, len(lists.starts) - 1)
        in_parts(splats, N, _SPLATS_PER_PART)
        gradients = [torch.from_numpy(v) for v in (v_means2d, v_conics, v_colors, v_opacities)]
        return *gradients, None, None, None, None


def rasterize(
    projected: Projected, colors: Tensor, opacities: Tensor, camera: Camera, max_alpha: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`reference.rasterize` in float32, with its adjoint written by hand."""
    return _Rasterize.apply(
        projected.means2d,
        projected.conics,
        colors,
        opacities,
        projected.depths,
        projected.radii,
        camera,
        max_alpha,
    )
