"""Splats to pixels on the graphics card: a block of 256 threads a tile, a thread a pixel."""

# mypy: ignore-errors
# ruff: noqa: UP018, PLR0915
# Warp gives these functions their types; float(1.0) is how it declares a variable.
import functools
from typing import NamedTuple

import warp as wp

from ..stages import ALPHA_MIN, TILE, TRANSMITTANCE_MIN
from .tiling import Splat

BLOCK = TILE * TILE
MAX_CHANNELS = 4  # more are drawn four at a time
MOMENTS = 6  # sums of s, s dx, s dy, s dx^2, s dx dy, s dy^2 with s = gradient * alpha
_ALPHA_MIN, _CLOSED = wp.constant(wp.float32(ALPHA_MIN)), wp.constant(wp.float32(TRANSMITTANCE_MIN))


@wp.struct
class Grid:
    """The images and their tiles; splats and colours are counted over all of them."""

    width: int
    height: int
    tiles_x: int
    tiles_y: int
    splats: int  # per image
    images_per_color: int
    max_alpha: float


@wp.func_native("""
#if defined(__CUDA_ARCH__)
    return __any_sync(0xffffffffu, condition);
#else
    return condition;
#endif
""")
def any_neighbour(condition: bool) -> bool:
    """Whether it holds in any of the 32 threads that run in step; all of them must ask."""
    ...


@wp.func
def pixel_of(lane: int):
    """Column and row of a thread in the tile: 32 threads in step cover 8 by 4 pixels, so they agree more."""
    part, within = lane // 32, lane % 32
    return wp.vec2i((part % 2) * 8 + within % 8, (part // 2) * 4 + within // 8)


@wp.func_native("return ::exp2f(x);")
def exp2(x: float) -> float:
    """2^x, one instruction on the card."""
    ...


@wp.func
def falloff(splat: Splat, dx: float, dy: float):
    """Opacity of the splat at an offset from its middle."""
    return exp2(splat[5] - (splat[2] * dx * dx + splat[3] * dx * dy + splat[4] * dy * dy))


_ADD_TOGETHER = """
#if defined(__CUDA_ARCH__)
    // 16 sums over 32 threads at once: in each of four rounds a thread keeps half of its values and gives the
    // other half to its partner; a fifth adds the two threads that are left with the same value.
    constexpr int length = sizeof(value) / sizeof(float);
    const int lane = threadIdx.x & 31;
    float v[16];
    #pragma unroll
    for (int i = 0; i < 16; ++i) v[i] = i < length ? value[i] : 0.0f;
    #define ROUND(half)                                                                  \\
        _Pragma("unroll") for (int i = 0; i < half; ++i) {                               \\
            const bool upper = lane & (2 * half);                                        \\
            const float keep = upper ? v[i + half] : v[i], give = upper ? v[i] : v[i + half]; \\
            v[i] = keep + __shfl_xor_sync(0xffffffffu, give, 2 * half);                  \\
        }
    ROUND(8) ROUND(4) ROUND(2) ROUND(1)  // constants: v must stay in registers
    #undef ROUND
    v[0] += __shfl_xor_sync(0xffffffffu, v[0], 1);
    if ((lane & 1) == 0 && (lane >> 1) < length)
        atomicAdd(reinterpret_cast<float*>(&out.data[index]) + (lane >> 1), v[0]);
#else
    for (unsigned i = 0; i < sizeof(value) / sizeof(float); ++i)
        reinterpret_cast<float*>(&out.data[index])[i] += value[i];
#endif
"""


class Kernels(NamedTuple):
    """The rasteriser for one number of channels."""

    Color: type
    Moments: type
    forward: wp.Kernel
    adjoint: wp.Kernel
    gather: wp.Kernel


def module_name(channels: int) -> str:
    return f"{__name__}_{channels}"


@functools.cache
def kernels(channels: int) -> Kernels:
    """Kernels for 1 to MAX_CHANNELS channels; arrays of colours hold vectors of that length."""
    Color = wp.types.vector(length=channels, dtype=wp.float32)
    Moments = wp.types.vector(length=MOMENTS + channels, dtype=wp.float32)
    module = module_name(channels)

    @wp.func_native(_ADD_TOGETHER)
    def add_together(out: wp.array[Moments], index: int, value: Moments):
        """Adds the values of the 32 threads that run in step to out[index]; all of them must call."""
        ...

    @wp.kernel(enable_backward=False, module=module, launch_bounds=BLOCK)
    def forward(
        splats: wp.array[Splat],  # [I * N]
        colors: wp.array[Color],  # [G * N]
        starts: wp.array[int],  # [tiles + 1]
        ids: wp.array[int],  # [M] image * N + splat
        grid: Grid,
        image: wp.array[Color],  # [I * H * W]
        alphas: wp.array[float],
    ):
        tile, lane = wp.tid()
        number = tile // (grid.tiles_x * grid.tiles_y)
        place = pixel_of(lane)
        column = tile % grid.tiles_x * TILE + place[0]
        row = tile // grid.tiles_x % grid.tiles_y * TILE + place[1]
        x, y = float(column) + 0.5, float(row) + 0.5
        shift = (number // grid.images_per_color - number) * grid.splats
        inside = column < grid.width and row < grid.height
        is_open = inside
        light = float(1.0)
        total = Color()
        start, stop = starts[tile], starts[tile + 1]
        for batch in range(start, stop, BLOCK):
            if wp.tile_sum(wp.tile(wp.where(is_open, 1, 0)))[0] == 0:
                break
            splat, color = Splat(), Color()
            if batch + lane < stop:
                splat = splats[ids[batch + lane]]
                color = colors[ids[batch + lane] + shift]
            near = wp.tile(splat, preserve_type=True)
            tints = wp.tile(color, preserve_type=True)
            for k in range(wp.min(BLOCK, stop - batch)):
                s = wp.tile_extract(near, k)
                alpha = wp.min(falloff(s, s[0] - x, s[1] - y), grid.max_alpha)
                if is_open and alpha >= _ALPHA_MIN:
                    after = light * (1.0 - alpha)
                    if after <= _CLOSED:
                        is_open = False
                    else:
                        total += alpha * light * wp.tile_extract(tints, k)
                        light = after
        if inside:
            pixel = (number * grid.height + row) * grid.width + column
            image[pixel] = total
            alphas[pixel] = 1.0 - light

    @wp.kernel(enable_backward=False, module=module, launch_bounds=BLOCK)
    def adjoint(
        splats: wp.array[Splat],
        colors: wp.array[Color],
        starts: wp.array[int],
        ids: wp.array[int],
        grid: Grid,
        image: wp.array[Color],
        alphas: wp.array[float],
        v_image: wp.array[Color],
        v_alphas: wp.array[float],  # [I * H * W]; zeros but for the first of several chunks of channels
        moments: wp.array[Moments],  # [I * N], added to
    ):
        tile, lane = wp.tid()
        number = tile // (grid.tiles_x * grid.tiles_y)
        place = pixel_of(lane)
        column = tile % grid.tiles_x * TILE + place[0]
        row = tile // grid.tiles_x % grid.tiles_y * TILE + place[1]
        x, y = float(column) + 0.5, float(row) + 0.5
        shift = (number // grid.images_per_color - number) * grid.splats
        is_open = column < grid.width and row < grid.height
        light = float(1.0)
        v_color = Color()
        behind = float(0.0)  # gradient . (colour still to come), less that of the final light
        if is_open:
            pixel = (number * grid.height + row) * grid.width + column
            v_color = v_image[pixel]
            behind = wp.dot(v_color, image[pixel]) - v_alphas[pixel] * (1.0 - alphas[pixel])
        start, stop = starts[tile], starts[tile + 1]
        for batch in range(start, stop, BLOCK):
            if wp.tile_sum(wp.tile(wp.where(is_open, 1, 0)))[0] == 0:
                break
            splat, color, id = Splat(), Color(), 0
            if batch + lane < stop:
                id = ids[batch + lane]
                splat = splats[id]
                color = colors[id + shift]
            near = wp.tile(splat, preserve_type=True)
            tints = wp.tile(color, preserve_type=True)
            names = wp.tile(id)
            for k in range(wp.min(BLOCK, stop - batch)):
                s = wp.tile_extract(near, k)
                dx, dy = s[0] - x, s[1] - y
                alpha = wp.min(falloff(s, dx, dy), grid.max_alpha)
                touched = is_open and alpha >= _ALPHA_MIN
                if any_neighbour(touched):
                    share = Moments()
                    if touched:
                        after = light * (1.0 - alpha)
                        if after <= _CLOSED:
                            is_open = False
                        else:
                            weight = alpha * light
                            shade = wp.dot(v_color, wp.tile_extract(tints, k))
                            behind -= weight * shade
                            g = float(0.0)
                            if alpha < grid.max_alpha:  # a clamped alpha does not follow its splat
                                g = weight * shade - alpha / (1.0 - alpha) * behind
                            share[0] = g
                            share[1] = g * dx
                            share[2] = g * dy
                            share[3] = g * dx * dx
                            share[4] = g * dx * dy
                            share[5] = g * dy * dy
                            for d in range(wp.static(channels)):
                                share[MOMENTS + d] = weight * v_color[d]
                            light = after
                    add_together(moments, wp.tile_extract(names, k), share)

    @wp.kernel(enable_backward=False, module=module)
    def gather(
        grid: Grid,
        conics: wp.array[wp.vec3],  # [I * N]
        opacities: wp.array[float],
        moments: wp.array[Moments],
        v_means2d: wp.array[wp.vec2],  # [I * N], added to as the next two
        v_conics: wp.array[wp.vec3],
        v_opacities: wp.array[float],
        v_colors: wp.array[Color],  # [G * N]
    ):
        n = wp.tid()
        group, splat = n // grid.splats, n % grid.splats
        total = Color()
        for image in range(group * grid.images_per_color, (group + 1) * grid.images_per_color):
            at = image * grid.splats + splat
            m, conic = moments[at], conics[at]
            v_means2d[at] -= wp.vec2(conic[0] * m[1] + conic[1] * m[2], conic[1] * m[1] + conic[2] * m[2])
            v_conics[at] -= wp.vec3(0.5 * m[3], m[4], 0.5 * m[5])
            v_opacities[at] += m[0] / wp.max(opacities[at], _ALPHA_MIN)
            for d in range(wp.static(channels)):
                total[d] += m[MOMENTS + d]
        v_colors[n] = total

    return Kernels(Color, Moments, forward, adjoint, gather)
