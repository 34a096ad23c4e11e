"""Splats to pixels on the processor: tiles of 4 by 4 blocks, one block of 16 pixels a vector register.

The state of a tile (light left, colour sums, …) is kept block by block, so that the loop over the
16 `lane`s of a block touches neighbouring memory and compiles to packed instructions. Arrays that are
written in such a loop must stay separate arrays, or the compiler stops seeing that they do not overlap.
"""

from __future__ import annotations

import numpy as np
from numba.core import types
from numba.extending import intrinsic

from .numba_jit import inline, jit
from .numba_tiles import HALF_X, HALF_Y, LOG_OPACITY, XX, XY, YY, X, Y
from .stages import ALPHA_MIN, TILE, TRANSMITTANCE_MIN

SIDE = 4  # pixels along one side of a block
LANES = SIDE * SIDE
ROW = TILE // SIDE  # blocks along one side of a tile
BLOCKS = ROW * ROW
MOMENTS = 6  # sums of s, s dx, s dy, s dx^2, s dx dy, s dy^2 with s = gradient * alpha

_F = np.float32
_ZERO, _ONE = _F(0), _F(1)
_LOG_ALPHA_MIN = _F(np.log2(ALPHA_MIN))
_CLOSED = _F(TRANSMITTANCE_MIN)


@intrinsic
def _float_from_bits(typing, bits):
    """The float32 whose bits are this int32."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], context.get_value_type(types.float32))

    return types.float32(types.int32), codegen


# Best degree-5 fit of 2^f on [-1, 0] in the sense of the largest relative error, 7.5e-8.
_P0, _P1, _P2 = _F(0.9999999250634883), _F(0.6931422525916131), _F(0.2401721892364902)
_P3, _P4, _P5 = _F(0.055279722548843196), _F(0.009188611695056859), _F(0.000938788322794093)


@inline
def _exp2(x):
    """2^x for x in [-20, 0]: whole powers by exponent bits, the rest by a polynomial."""
    whole = np.int32(x)
    f = x - _F(whole)  # in (-1, 0]
    p = ((((_P5 * f + _P4) * f + _P3) * f + _P2) * f + _P1) * f + _P0
    return p * _float_from_bits(np.int32((whole + np.int32(127)) << np.int32(23)))


@inline
def _blocks(centre, half, origin):
    """First and last block (end open) of a tile, along one axis, whose pixel centres a splat can reach."""
    low = np.int64(np.ceil(centre - half - _F(0.5))) - origin
    high = np.int64(np.floor(centre + half - _F(0.5))) - origin
    return max(low, 0) >> 2, (min(high, TILE - 1) >> 2) + 1


@inline
def _lane_centres(origin_x, origin_y, lane_x, lane_y):
    """Pixel centres of a tile's pixels, block by block: lane_x, lane_y [TILE * TILE]."""
    for block in range(BLOCKS):
        for lane in range(LANES):
            x, y = (block % ROW) * SIDE + lane % SIDE, (block // ROW) * SIDE + lane // SIDE
            lane_x[block * LANES + lane] = _F(origin_x + x) + _F(0.5)
            lane_y[block * LANES + lane] = _F(origin_y + y) + _F(0.5)


@inline
def _open_blocks(light, is_open):
    """Marks the blocks that have a pixel through which light still comes; returns how many."""
    count = 0
    for block in range(BLOCKS):
        most = _ZERO
        for lane in range(LANES):
            most = max(most, light[block * LANES + lane])
        is_open[block] = most > _ZERO
        count += most > _ZERO
    return count


@jit
def rasterize(
    first, last, splats, colors, images_per_color, starts, ids, size, grid, max_alpha, image, alphas
):  # fmt: skip
    """Composites the tiles first..last, counted over all images.

    splats [I * N, FIELDS], colors [G, N, D] with I = G * images_per_color, starts [tiles + 1], ids [M],
    size (width, height), grid (tiles_x, tiles_y); writes image [I, H, W, D] and alphas [I, H, W].
    """
    width, height = size
    tiles_x, tiles_y = grid
    N, D = colors.shape[1], colors.shape[2]
    light = np.empty(TILE * TILE, np.float32)  # what still comes through; negative once the pixel is closed
    sums = np.empty((D, TILE * TILE), np.float32)
    lane_x, lane_y = np.empty(TILE * TILE, np.float32), np.empty(TILE * TILE, np.float32)
    weight = np.empty(LANES, np.float32)
    is_open = np.empty(BLOCKS, np.bool_)
    for tile in range(first, last):
        number = tile // (tiles_x * tiles_y)
        row = tile // tiles_x % tiles_y
        origin_x, origin_y = tile % tiles_x * TILE, row * TILE
        palette = colors[number // images_per_color]
        _lane_centres(origin_x, origin_y, lane_x, lane_y)
        light[:] = _ONE
        sums[:] = _ZERO
        is_open[:] = True
        for k in range(starts[tile], starts[tile + 1]):
            if (k - starts[tile]) % 16 == 15 and _open_blocks(light, is_open) == 0:
                break
            s = splats[ids[k]]
            color = palette[ids[k] - number * N]
            x, y, xx, xy, yy, log_opacity = s[X], s[Y], s[XX], s[XY], s[YY], s[LOG_OPACITY]
            left, right = _blocks(x, s[HALF_X], origin_x)
            top, bottom = _blocks(y, s[HALF_Y], origin_y)
            for block_y in range(top, bottom):
                for block_x in range(left, right):
                    block = block_y * ROW + block_x
                    if not is_open[block]:
                        continue
                    at = block * LANES
                    for lane in range(LANES):
                        dx, dy = x - lane_x[at + lane], y - lane_y[at + lane]
                        power = log_opacity - (xx * dx * dx + xy * dx * dy + yy * dy * dy)
                        alpha = min(_exp2(min(max(power, _F(-20)), _ZERO)), max_alpha)
                        before = light[at + lane]
                        taken = alpha * before
                        after = before - taken
                        touched = (power >= _LOG_ALPHA_MIN) & (before > _ZERO)
                        closes = after <= _CLOSED
                        weight[lane] = taken if touched & ~closes else _ZERO
                        light[at + lane] = (-before if closes else after) if touched else before
                    for d in range(D):
                        for lane in range(LANES):
                            sums[d, at + lane] += weight[lane] * color[d]
        for y_px in range(min(TILE, height - origin_y)):
            for x_px in range(min(TILE, width - origin_x)):
                at = ((y_px >> 2) * ROW + (x_px >> 2)) * LANES + (y_px & 3) * SIDE + (x_px & 3)
                alphas[number, origin_y + y_px, origin_x + x_px] = _ONE - abs(light[at])
                for d in range(D):
                    image[number, origin_y + y_px, origin_x + x_px, d] = sums[d, at]


@jit
def rasterize_adjoint(
    first, last, splats, colors, images_per_color, starts, ids, size, grid, max_alpha,
    image, alphas, v_image, v_alphas, moments,
):  # fmt: skip
    """Replays `rasterize` front to back and writes what every list entry gets: moments [M, MOMENTS + D].

    With w = alpha * light, the derivative by an alpha needs only the light before it and the sum of
    everything behind it, which is the final colour less what has been passed: nothing is stored.
    """
    width, height = size
    tiles_x, tiles_y = grid
    N, D = colors.shape[1], colors.shape[2]
    light = np.empty(TILE * TILE, np.float32)
    behind = np.empty(
        TILE * TILE, np.float32
    )  # gradient . (colour still to come), less that of the final light
    v_color = np.empty((D, TILE * TILE), np.float32)
    lane_x, lane_y = np.empty(TILE * TILE, np.float32), np.empty(TILE * TILE, np.float32)
    is_open = np.empty(BLOCKS, np.bool_)
    weight, shade = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    opaque, strength = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    m0, mx, my = np.empty(LANES, np.float32), np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    mxx, mxy, myy = np.empty(LANES, np.float32), np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    m_color = np.empty((D, LANES), np.float32)
    for tile in range(first, last):
        number = tile // (tiles_x * tiles_y)
        row = tile // tiles_x % tiles_y
        origin_x, origin_y = tile % tiles_x * TILE, row * TILE
        palette = colors[number // images_per_color]
        _lane_centres(origin_x, origin_y, lane_x, lane_y)
        light[:] = -_ONE  # pixels outside the picture are closed
        behind[:] = _ZERO
        v_color[:] = _ZERO
        for y_px in range(min(TILE, height - origin_y)):
            for x_px in range(min(TILE, width - origin_x)):
                at = ((y_px >> 2) * ROW + (x_px >> 2)) * LANES + (y_px & 3) * SIDE + (x_px & 3)
                py, px = origin_y + y_px, origin_x + x_px
                light[at] = _ONE
                total = -v_alphas[number, py, px] * (_ONE - alphas[number, py, px])
                for d in range(D):
                    v_color[d, at] = v_image[number, py, px, d]
                    total += v_image[number, py, px, d] * image[number, py, px, d]
                behind[at] = total
        _open_blocks(light, is_open)
        for k in range(starts[tile], starts[tile + 1]):
            if (k - starts[tile]) % 16 == 15 and _open_blocks(light, is_open) == 0:
                moments[k : starts[tile + 1]] = _ZERO
                break
            s = splats[ids[k]]
            color = palette[ids[k] - number * N]
            x, y, xx, xy, yy, log_opacity = s[X], s[Y], s[XX], s[XY], s[YY], s[LOG_OPACITY]
            left, right = _blocks(x, s[HALF_X], origin_x)
            top, bottom = _blocks(y, s[HALF_Y], origin_y)
            m0[:], mx[:], my[:] = _ZERO, _ZERO, _ZERO
            mxx[:], mxy[:], myy[:] = _ZERO, _ZERO, _ZERO
            m_color[:] = _ZERO
            for block_y in range(top, bottom):
                for block_x in range(left, right):
                    block = block_y * ROW + block_x
                    if not is_open[block]:
                        continue
                    at = block * LANES
                    for lane in range(LANES):
                        dx, dy = x - lane_x[at + lane], y - lane_y[at + lane]
                        power = log_opacity - (xx * dx * dx + xy * dx * dy + yy * dy * dy)
                        alpha = min(_exp2(min(max(power, _F(-20)), _ZERO)), max_alpha)
                        before = light[at + lane]
                        taken = alpha * before
                        after = before - taken
                        touched = (power >= _LOG_ALPHA_MIN) & (before > _ZERO)
                        closes = after <= _CLOSED
                        weight[lane] = taken if touched & ~closes else _ZERO
                        light[at + lane] = (-before if closes else after) if touched else before
                        opaque[lane] = alpha
                        # A clamped alpha does not follow its splat.
                        strength[lane] = alpha if touched & ~closes & (alpha < max_alpha) else _ZERO
                        shade[lane] = _ZERO
                    for d in range(D):
                        for lane in range(LANES):
                            shade[lane] += v_color[d, at + lane] * color[d]
                            m_color[d, lane] += v_color[d, at + lane] * weight[lane]
                    for lane in range(LANES):
                        dx, dy = x - lane_x[at + lane], y - lane_y[at + lane]
                        rest = behind[at + lane] - weight[lane] * shade[lane]
                        behind[at + lane] = rest
                        a = opaque[lane]
                        # before = weight / alpha wherever the splat counts
                        g = strength[lane] * (weight[lane] / a * shade[lane] - rest / (_ONE - a))
                        m0[lane] += g
                        mx[lane] += g * dx
                        my[lane] += g * dy
                        mxx[lane] += g * dx * dx
                        mxy[lane] += g * dx * dy
                        myy[lane] += g * dy * dy
            out = moments[k]
            out[0], out[1], out[2] = m0.sum(), mx.sum(), my.sum()
            out[3], out[4], out[5] = mxx.sum(), mxy.sum(), myy.sum()
            for d in range(D):
                out[MOMENTS + d] = m_color[d].sum()


@jit
def gather_moments(
    first, last, images_per_color, conics, opacities, counts, begins, slots, moments,
    v_means2d, v_conics, v_opacities, v_colors,
):  # fmt: skip
    """Sums the list entries of the splats first..last of every image into gradients [I, N, …]; v_colors [G, N, D]."""
    I, D = counts.shape[0], v_colors.shape[2]
    total = np.empty(MOMENTS + D, np.float32)
    for image in range(I):
        for n in range(first, last):
            if counts[image, n] == 0:
                continue
            total[:] = _ZERO
            begin = begins[image, n]
            for entry in range(begin, begin + counts[image, n]):
                source = moments[slots[entry]]
                for m in range(MOMENTS + D):
                    total[m] += source[m]
            a, b, c = conics[image, n, 0], conics[image, n, 1], conics[image, n, 2]
            v_means2d[image, n, 0] = -(a * total[1] + b * total[2])
            v_means2d[image, n, 1] = -(b * total[1] + c * total[2])
            v_conics[image, n, 0] = _F(-0.5) * total[3]
            v_conics[image, n, 1] = -total[4]
            v_conics[image, n, 2] = _F(-0.5) * total[5]
            v_opacities[image, n] = total[0] / opacities[image, n]
            for d in range(D):
                v_colors[image // images_per_color, n, d] += total[MOMENTS + d]
