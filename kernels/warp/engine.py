"""Splat rendering on an NVIDIA card without a compiler: Warp's kernels, joined to autograd."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import warp as wp
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..stages import Camera, Projected
from . import projection, raster, tiling

wp.config.log_level = wp.LOG_ERROR  # stdout and stderr have other readers
wp.init()


def _on_stream_of(tensor: Tensor) -> AbstractContextManager[Any]:
    """Kernels go to torch's current stream, so nothing has to wait."""
    if tensor.device.type == "cpu":
        return nullcontext()
    return wp.ScopedStream(wp.stream_from_torch(torch.cuda.current_stream(tensor.device)), sync_enter=False)


def _launch(kernel: Any, dim: Any, inputs: list[Any], device: torch.device, block_dim: int = 256) -> None:
    wp.launch(kernel, dim=dim, inputs=inputs, device=wp.device_from_torch(device), block_dim=block_dim)


def _array(tensor: Tensor, dtype: Any) -> Any:
    scalar = {float: wp.float32, int: wp.int32}
    return wp.from_torch(tensor.detach().contiguous(), dtype=scalar.get(dtype, dtype), requires_grad=False)


def _flat(tensor: Tensor, dtype: Any) -> Any:
    """A one-dimensional array of scalars or vectors."""
    return _array(tensor.reshape(-1) if dtype in (float, int, wp.int64) else tensor.flatten(0, -2), dtype)


def _lens(camera: Camera) -> Any:
    lens = projection.Lens()
    lens.width, lens.height, lens.eps2d = camera.width, camera.height, camera.eps2d
    lens.perspective = float(camera.perspective)
    lens.near, lens.far, lens.radius_clip = camera.near, camera.far, camera.radius_clip
    return lens


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx, means, quats, scales, opacities, viewmats, Ks, camera):
        B, C = viewmats.shape[:2]
        N = means.shape[1]
        shapes: list[tuple[int, ...]] = [(2,), (3,), (), ()]
        outputs = [means.new_zeros(B * C, N, *shape) for shape in shapes]
        outputs.append(means.new_zeros(B * C, N, 2, dtype=torch.int32))
        with _on_stream_of(means):
            inputs = [
                _array(means, wp.vec3), _array(quats, wp.vec4), _array(scales, wp.vec3),
                _array(opacities, float), _array(viewmats, wp.mat44), _array(Ks, wp.mat33),
            ]  # fmt: skip
            kinds = (wp.vec2, wp.vec3, float, float, wp.vec2i)
            results = [_array(output, kind) for output, kind in zip(outputs, kinds, strict=True)]
            _launch(projection.project, (B * C, N), [*inputs, _lens(camera), *results], means.device)
        ctx.save_for_backward(means, quats, scales, viewmats, Ks, outputs[1], outputs[3], outputs[4])
        ctx.camera = camera
        ctx.mark_non_differentiable(outputs[-1])
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx, v_means2d, v_conics, v_depths, v_compensations, _):
        means, quats, scales, viewmats, Ks, conics, compensations, radii = ctx.saved_tensors
        B, N = means.shape[:2]
        v_means, v_quats, v_scales = map(torch.zeros_like, (means, quats, scales))
        v_rows = means.new_zeros(*viewmats.shape[:2], 12)
        with _on_stream_of(means):
            inputs = [
                _array(means, wp.vec3), _array(quats, wp.vec4), _array(scales, wp.vec3),
                _array(viewmats, wp.mat44), _array(Ks, wp.mat33), _lens(ctx.camera),
                _array(conics, wp.vec3), _array(compensations, float), _array(radii, wp.vec2i),
                _array(v_means2d, wp.vec2), _array(v_conics, wp.vec3), _array(v_depths, float),
                _array(v_compensations, float), int(ctx.needs_input_grad[4]),
                _array(v_means, wp.vec3), _array(v_quats, wp.vec4), _array(v_scales, wp.vec3),
                _array(v_rows, projection.vec12),
            ]  # fmt: skip
            blocks = -(-N // projection.BLOCK)
            _launch(
                projection.project_adjoint,
                (B, blocks, projection.BLOCK),
                inputs,
                means.device,
                projection.BLOCK,
            )
        v_viewmats = torch.nn.functional.pad(v_rows.unflatten(-1, (3, 4)), (0, 0, 0, 1))
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
    """`reference.project` in float32, with its adjoint written by hand."""
    return Projected(*_Project.apply(means, quats, scales, opacities, viewmats, Ks, camera))


def _sorted(keys: Tensor, values: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Keys 0..2^bits and their values in a stable order; the tensors hold twice the count, as scratch."""
    count = len(keys) // 2
    if count:
        wp.utils.radix_sort_pairs(_flat(keys, int), _flat(values, int), count, 0, bits)
    return keys[:count], values[:count]


def _intersect(
    means2d: Tensor, conics: Tensor, depths: Tensor, opacities: Tensor, radii: Tensor, camera: Camera
) -> tuple[Tensor, Tensor, Tensor]:
    """`reference.intersect`: splats [I * N, 6], starts [tiles + 1] and ids [M] (image * N + splat), int32."""
    I, N = depths.shape
    device = depths.device
    splats = depths.new_empty(I * N, 6)
    boxes = torch.empty(I * N, 4, dtype=torch.int32, device=device)
    counts = torch.empty(I * N, dtype=torch.int32, device=device)
    keys, order = torch.empty(2, 2 * I * N, dtype=torch.int32, device=device)
    inputs = [
        _flat(means2d, wp.vec2), _flat(conics, wp.vec3), _flat(depths, float), _flat(opacities, float),
        _flat(radii, wp.vec2i), camera.width, camera.height,
    ]  # fmt: skip
    boxes_, counts_ = _flat(boxes, wp.vec4i), _flat(counts, int)
    results = [_flat(splats, tiling.Splat), boxes_, counts_, _flat(keys, int), _flat(order, int)]
    _launch(tiling.prepare, I * N, [*inputs, *results], device)
    _, order = _sorted(keys, order, 31)
    ends = counts[order].cumsum(0)
    total = int(ends[-1]) if I * N else 0
    tile_keys, ids = torch.empty(2, 2 * total, dtype=torch.int32, device=device)
    inputs = [_flat(order, int), _flat(ends, wp.int64), counts_, boxes_, N, camera.tiles_x, camera.tiles_y]
    _launch(tiling.emit, I * N, [*inputs, _flat(tile_keys, int), _flat(ids, int)], device)
    tiles = I * camera.tiles_x * camera.tiles_y
    tile_keys, ids = _sorted(tile_keys, ids, tiles.bit_length())
    firsts = torch.arange(tiles + 1, dtype=torch.int32, device=device)
    return splats, torch.searchsorted(tile_keys, firsts, out_int32=True), ids


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, means2d, conics, colors, opacities, depths, radii, camera, max_alpha):
        I, N = depths.shape
        with _on_stream_of(means2d):
            splats, starts, ids = _intersect(means2d, conics, depths, opacities, radii, camera)
            grid = raster.Grid()
            grid.width, grid.height = camera.width, camera.height
            grid.tiles_x, grid.tiles_y = camera.tiles_x, camera.tiles_y
            grid.splats, grid.images_per_color, grid.max_alpha = N, I // len(colors), max_alpha
            lists = [_flat(starts, int), _flat(ids, int), grid]
            chunks = [chunk.contiguous() for chunk in colors.detach().split(raster.MAX_CHANNELS, -1)]
            images = [colors.new_empty(I, camera.height, camera.width, chunk.shape[-1]) for chunk in chunks]
            alphas = colors.new_empty(I, camera.height, camera.width)
            for chunk, image in zip(chunks, images, strict=True):
                kernels = raster.kernels(chunk.shape[-1])
                inputs = [_flat(splats, tiling.Splat), _flat(chunk, kernels.Color), *lists]
                outputs = [_flat(image, kernels.Color), _flat(alphas, float)]
                _launch(kernels.forward, (len(starts) - 1, raster.BLOCK), inputs + outputs, colors.device)
        image = torch.cat(images, -1) if len(images) > 1 else images[0]
        ctx.save_for_backward(conics, opacities, image, alphas)
        ctx.chunks, ctx.splats, ctx.starts, ctx.ids, ctx.grid = chunks, splats, starts, ids, grid
        offsets = starts[:-1].reshape(I, camera.tiles_y, camera.tiles_x)
        ctx.mark_non_differentiable(offsets, ids)
        return image, alphas, offsets, ids

    @staticmethod
    @once_differentiable
    def backward(ctx, v_image, v_alphas, _offsets, _ids):
        conics, opacities, image, alphas = ctx.saved_tensors
        I, N = opacities.shape
        G = len(ctx.chunks[0])
        v_means2d, v_conics = conics.new_zeros(I, N, 2), torch.zeros_like(conics)
        v_opacities, v_colors = torch.zeros_like(opacities), []
        with _on_stream_of(conics):
            lists = [_flat(ctx.starts, int), _flat(ctx.ids, int), ctx.grid]
            sizes = [chunk.shape[-1] for chunk in ctx.chunks]
            for chunk, part, v_part in zip(
                ctx.chunks, image.split(sizes, -1), v_image.split(sizes, -1), strict=True
            ):
                D = chunk.shape[-1]
                kernels = raster.kernels(D)
                moments = conics.new_zeros(I, N, raster.MOMENTS + D)
                moments_ = _flat(moments, kernels.Moments)
                inputs = [_flat(ctx.splats, tiling.Splat), _flat(chunk, kernels.Color), *lists]
                pixels = [
                    _flat(part, kernels.Color), _flat(alphas, float),
                    _flat(v_part, kernels.Color), _flat(v_alphas, float),
                ]  # fmt: skip
                tiles = (len(ctx.starts) - 1, raster.BLOCK)
                _launch(kernels.adjoint, tiles, [*inputs, *pixels, moments_], conics.device)
                v_chunk = torch.empty_like(chunk)
                gathered = [
                    ctx.grid, _flat(conics, wp.vec3), _flat(opacities, float), moments_,
                    _flat(v_means2d, wp.vec2), _flat(v_conics, wp.vec3), _flat(v_opacities, float),
                    _flat(v_chunk, kernels.Color),
                ]  # fmt: skip
                _launch(kernels.gather, G * N, gathered, conics.device)
                v_colors.append(v_chunk)
                v_alphas = torch.zeros_like(v_alphas)  # the alphas' share is in the first chunk
        return v_means2d, v_conics, torch.cat(v_colors, -1), v_opacities, None, None, None, None


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
