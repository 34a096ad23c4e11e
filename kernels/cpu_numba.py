"""Splat rendering on the processor: the compiled kernels, spread over threads and joined to autograd."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from . import numba_project, numba_raster, numba_tiles
from .stages import Camera, Projected

_pool: ThreadPoolExecutor | None = None
_pool_pid = 0


def _in_parts(function: Callable[[int, int], object], total: int, smallest: int) -> None:
    """Calls function(first, last) over parts of range(total), on as many threads as torch would use.

    Every part writes its own outputs, so the result does not depend on the number of threads.
    """
    threads = min(torch.get_num_threads(), max(1, total // smallest))
    if threads == 1:
        function(0, total)
        return
    global _pool, _pool_pid
    if _pool is None or _pool_pid != os.getpid():  # a forked child has the object but not its threads
        _pool, _pool_pid = ThreadPoolExecutor(os.cpu_count(), "splats"), os.getpid()
    parts = min(total, threads * 4)  # more parts than threads: tiles differ in work
    bounds = [total * part // parts for part in range(parts + 1)]
    turns = iter(list(pairwise(bounds)))

    def work() -> None:
        for first, last in turns:  # next() on a list iterator is atomic under the interpreter lock
            function(first, last)

    helpers = [_pool.submit(work) for _ in range(threads - 1)]
    work()
    for helper in helpers:
        helper.result()


def _numpy(*tensors: Tensor) -> tuple[np.ndarray, ...]:
    return tuple(tensor.detach().contiguous().numpy() for tensor in tensors)


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx, means, quats, scales, opacities, viewmats, Ks, camera):  # noqa: PLR0917
        B, C = viewmats.shape[:2]
        N = means.shape[1]
        arrays = means_, quats_, scales_, opacities_, viewmats_, Ks_ = _numpy(
            means, quats, scales, opacities, viewmats, Ks
        )
        covs = np.empty((B, N, 6), np.float32)
        outputs = [np.zeros((B, C, N, *shape), np.float32) for shape in ((2,), (3,), (), ())]
        outputs.append(np.zeros((B, C, N, 2), np.int32))
        f = np.float32
        lens = (f(camera.width), f(camera.height), f(camera.near), f(camera.far), f(camera.radius_clip),
                f(camera.eps2d))  # fmt: skip

        def part(first: int, last: int) -> None:
            for b in range(B):
                numba_project.covariances(first, last, quats_[b], scales_[b], covs[b])
                for c in range(C):
                    numba_project.project(
                        first, last, means_[b], covs[b], opacities_[b], viewmats_[b, c], Ks_[b, c], *lens,
                        *(output[b, c] for output in outputs),
                    )  # fmt: skip

        _in_parts(part, N, 4096)
        ctx.arrays, ctx.covs, ctx.outputs, ctx.camera = arrays, covs, outputs, camera
        results = tuple(torch.from_numpy(output).flatten(0, 1) for output in outputs)
        ctx.mark_non_differentiable(results[-1])
        return results

    @staticmethod
    def backward(ctx, v_means2d, v_conics, v_depths, v_compensations, _):
        means, quats, scales, _opacities, viewmats, Ks = ctx.arrays
        _, conics, _, compensations, radii = ctx.outputs
        B, C, N = radii.shape[:3]
        v_outputs = _numpy(
            *(v.unflatten(0, (B, C)) for v in (v_means2d, v_conics, v_depths, v_compensations))
        )
        v_means, v_covs = np.zeros((B, N, 3), np.float32), np.zeros((B, N, 6), np.float32)
        v_quats, v_scales = np.empty_like(quats), np.empty_like(scales)
        block = 4096  # fixed, so that the sum over Gaussians for v_viewmats has one order
        blocks = -(-N // block)
        v_views = np.zeros((blocks, B, C, 4, 4))
        f = np.float32
        lens = f(ctx.camera.width), f(ctx.camera.height), f(ctx.camera.eps2d)

        def part(first_block: int, last_block: int) -> None:
            for at in range(first_block, last_block):
                first, last = at * block, min((at + 1) * block, N)
                for b in range(B):
                    for c in range(C):
                        numba_project.project_adjoint(
                            first, last, means[b], ctx.covs[b], viewmats[b, c], Ks[b, c], *lens,
                            conics[b, c], compensations[b, c], radii[b, c], *(v[b, c] for v in v_outputs),
                            v_means[b], v_covs[b], v_views[at, b, c],
                        )  # fmt: skip
                    numba_project.covariances_adjoint(
                        first, last, quats[b], scales[b], v_covs[b], v_quats[b], v_scales[b]
                    )

        _in_parts(part, blocks, 1)
        v_viewmats = torch.from_numpy(v_views.sum(0).astype(np.float32))
        v_means, v_quats, v_scales = map(torch.from_numpy, (v_means, v_quats, v_scales))
        return v_means, v_quats, v_scales, None, v_viewmats, None, None


def project(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    camera: Camera,
) -> Projected:
    """`ref.project` in float32, with its adjoint written by hand."""
    return Projected(*_Project.apply(means, quats, scales, opacities, viewmats, Ks, camera))


def _intersect(means2d, conics, depths, opacities, radii, camera: Camera) -> dict[str, np.ndarray]:
    """`ref.intersect` on arrays, with what the rasteriser and its adjoint need besides the lists."""
    I, N = depths.shape
    tiles = camera.tiles_x * camera.tiles_y
    splats = np.empty((I, N, numba_tiles.FIELDS), np.float32)
    boxes, counts = np.empty((I, N, 4), np.int32), np.empty((I, N), np.int32)
    # Few images on many threads: each image's splats are listed in several parts, one after another in the lists.
    parts = max(1, min(torch.get_num_threads() // max(I, 1), N // 4096))
    histograms = np.zeros((I, parts, tiles), np.int64)
    order = np.empty((I, N), np.int32)
    seen = [0] * I

    def prepare(first: int, last: int) -> None:
        for i in range(I):
            numba_tiles.prepare(
                first, last, means2d[i], conics[i], opacities[i], radii[i], camera.width, camera.height,
                splats[i], boxes[i], counts[i],
            )  # fmt: skip

    def sort(first: int, last: int) -> None:
        scratch = np.empty(N, np.uint32), np.empty(N, np.int32), np.empty(N, np.uint32)
        for i in range(first, last):
            seen[i] = numba_tiles.sort_by_depth(depths[i], counts[i], order[i], *scratch)

    def each_part(function: Callable[[int, int, int, int], None]) -> None:
        def run(first: int, last: int) -> None:
            for job in range(first, last):
                i, part = divmod(job, parts)
                function(i, part, seen[i] * part // parts, seen[i] * (part + 1) // parts)

        _in_parts(run, I * parts, 1)

    _in_parts(prepare, N, 4096)
    _in_parts(sort, I, 1)
    each_part(
        lambda i, part, first, last: numba_tiles.count_tiles(
            order[i], first, last, boxes[i], camera.tiles_x, histograms[i, part]
        )
    )
    starts = np.empty(I * tiles + 1, np.int64)
    total = 0
    for i in range(I):
        total = numba_tiles.start_tiles(histograms[i], total, starts[i * tiles :])
    starts[-1] = total
    begins = (np.cumsum(counts, dtype=np.int64) - counts.ravel()).reshape(I, N)
    ids, slots = np.empty(total, np.int32), np.empty(total, np.int32)
    each_part(
        lambda i, part, first, last: numba_tiles.fill_tiles(
            order[i], first, last, boxes[i], camera.tiles_x, histograms[i, part], begins[i], i * N, ids, slots
        )
    )
    return {
        "splats": splats,
        "counts": counts,
        "begins": begins,
        "starts": starts,
        "ids": ids,
        "slots": slots,
    }


def _channels(count: int) -> tuple[int, ...] | np.ndarray:
    """The channels' numbers: few as a tuple, whose length the compiler knows and unrolls loops by; many as an array."""
    return tuple(range(count)) if count <= 4 else np.arange(count)


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, means2d, conics, colors, opacities, depths, radii, camera, max_alpha):  # noqa: PLR0917
        arrays = _numpy(means2d, conics, depths, opacities, radii)
        (palette,) = _numpy(colors)
        I, N = depths.shape
        size, grid = (camera.width, camera.height), (camera.tiles_x, camera.tiles_y)
        lists = _intersect(*arrays, camera)
        image = np.empty((I, camera.height, camera.width, palette.shape[-1]), np.float32)
        alphas = np.empty((I, camera.height, camera.width), np.float32)
        scene = (
            lists["splats"].reshape(I * N, -1), palette, I // len(palette), _channels(palette.shape[-1]), lists["starts"], lists["ids"],
            size, grid, np.float32(max_alpha),
        )  # fmt: skip
        tiles = I * camera.tiles_x * camera.tiles_y
        _in_parts(lambda first, last: numba_raster.rasterize(first, last, *scene, image, alphas), tiles, 1)
        ctx.arrays, ctx.lists, ctx.scene = arrays, lists, scene
        results = torch.from_numpy(image), torch.from_numpy(alphas)
        ctx.save_for_backward(*results)  # the adjoint starts from the final colours: autograd guards them
        offsets = torch.from_numpy(lists["starts"][:-1].astype(np.int32)).reshape(I, *grid[::-1])
        ids = torch.from_numpy(lists["ids"])
        ctx.mark_non_differentiable(offsets, ids)
        return *results, offsets, ids

    @staticmethod
    def backward(ctx, v_image, v_alphas, _offsets, _ids):
        _, conics, _, opacities, _ = ctx.arrays
        _, palette, images_per_color, _, starts, ids = ctx.scene[:6]
        images, v_images = _numpy(*ctx.saved_tensors), _numpy(v_image, v_alphas)
        I, N, D = *opacities.shape, palette.shape[-1]
        moments = np.zeros((len(ids), numba_raster.MOMENTS + D), np.float32)
        v_means2d, v_conics = np.zeros((I, N, 2), np.float32), np.zeros((I, N, 3), np.float32)
        v_opacities, v_colors = np.zeros((I, N), np.float32), np.zeros_like(palette)
        counts, begins, slots = (ctx.lists[name] for name in ("counts", "begins", "slots"))

        def tiles(first: int, last: int) -> None:
            numba_raster.rasterize_adjoint(first, last, *ctx.scene, *images, *v_images, slots, moments)

        def splats(first: int, last: int) -> None:
            numba_raster.gather_moments(
                first, last, images_per_color, conics, opacities, counts, begins, moments,
                v_means2d, v_conics, v_opacities, v_colors,
            )  # fmt: skip

        _in_parts(tiles, len(starts) - 1, 1)
        _in_parts(splats, N, 4096)
        gradients = map(torch.from_numpy, (v_means2d, v_conics, v_colors, v_opacities))
        return *gradients, None, None, None, None


def rasterize(
    projected: Projected, colors: Tensor, opacities: Tensor, camera: Camera, max_alpha: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`ref.rasterize` in float32; colors may also be [G, N, D], each shared by I / G images."""
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
