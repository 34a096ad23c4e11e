"""Splats to pixels on the processor: tiles of 4 by 4 blocks, one block of 16 pixels a vector.

The state of a tile (light left, colour sums, …) is kept block by block: entry block * 16 + lane.
"""

from __future__ import annotations

import numpy as np

from .numba_jit import inline, jit
from .numba_simd import LANES, any_lane, exp2, highest, load, lowest, select, spread, store, total
from .numba_tiles import HALF_X, HALF_Y, LOG_OPACITY, XX, XY, YY, X, Y
from .stages import ALPHA_MIN, TILE, TRANSMITTANCE_MIN

SIDE = 4  # pixels along one side of a block
ROW = TILE // SIDE  # blocks along one side of a tile
BLOCKS = ROW * ROW
PIXELS = TILE * TILE
MOMENTS = 6  # sums of s, s dx, s dy, s dx^2, s dx dy, s dy^2 with s = gradient * alpha

_F = np.float32
_ZERO, _ONE = _F(0), _F(1)
_LOG_ALPHA_MIN = _F(np.log2(ALPHA_MIN))
_FAINT = _F(-20)  # powers of two below this are all the same to us
_CLOSED = _F(TRANSMITTANCE_MIN)
CHECK = 16  # splats between two looks at which blocks are still open


@inline
def _blocks(centre, half):
    """First and last block (end open) of a tile, along one axis, whose pixel centres a splat can reach."""
    low, high = np.int64(np.ceil(centre - half - _F(0.5))), np.int64(np.floor(centre + half - _F(0.5)))
    return max(low, 0) // SIDE, min(high, TILE - 1) // SIDE + 1


@inline
def _lane_centres(lane_x, lane_y):
    """Pixel centres of a tile at the origin, block by block: lane_x, lane_y [PIXELS]."""
    for block in range(BLOCKS):
        for lane in range(LANES):
            lane_x[block * LANES + lane] = _F((block % ROW) * SIDE + lane % SIDE) + _F(0.5)
            lane_y[block * LANES + lane] = _F((block // ROW) * SIDE + lane // SIDE) + _F(0.5)


@inline
def _place(y, x):
    """Where the pixel (y, x) of a tile lies in its state."""
    return ((y // SIDE) * ROW + x // SIDE) * LANES + y % SIDE * SIDE + x % SIDE


@inline
def _open_blocks(light, is_open):
    """Marks the blocks that have a pixel through which light still comes; returns how many."""
    count = 0
    for block in range(BLOCKS):
        is_open[block] = any_lane(load(light, block * LANES) > _ZERO)
        count += is_open[block]
    return count


@inline
def _composite(dx, dy, xx, xy, yy, log_opacity, max_alpha, before):
    """One splat over 16 pixels: its alpha, what it takes of the light, where it counts, the light after it.

    Light is negative in a pixel that is closed: one that this splat would leave less than TRANSMITTANCE_MIN.
    """
    power = log_opacity - (xx * dx * dx + xy * dx * dy + yy * dy * dy)
    alpha = lowest(exp2(lowest(highest(power, _FAINT), _ZERO)), max_alpha)
    taken = alpha * before
    after = before - taken
    touched = (power >= _LOG_ALPHA_MIN) & (before > _ZERO)
    counts = touched & (after > _CLOSED)
    return alpha, select(counts, taken, _ZERO), counts, select(touched, select(counts, after, _ZERO - before), before)


@jit
def rasterize(first, last, splats, colors, images_per_color, starts, ids, size, grid, max_alpha, image, alphas):
    """Composites the tiles first..last, counted over all images.

    splats [I * N, FIELDS], colors [G, N, D] with I = G * images_per_color, starts [tiles + 1], ids [M],
    size (width, height), grid (tiles_x, tiles_y); writes image [I, H, W, D] and alphas [I, H, W].
    """
    width, height = size
    tiles_x, tiles_y = grid
    N, D = colors.shape[1], colors.shape[2]
    lane_x, lane_y = np.empty(PIXELS, np.float32), np.empty(PIXELS, np.float32)
    _lane_centres(lane_x, lane_y)
    light = np.empty(PIXELS, np.float32)
    sums = np.empty(D * PIXELS, np.float32)
    is_open = np.empty(BLOCKS, np.bool_)
    for tile in range(first, last):
        number = tile // (tiles_x * tiles_y)
        origin_x, origin_y = tile % tiles_x * TILE, tile // tiles_x % tiles_y * TILE
        palette = colors[number // images_per_color]
        light[:] = _ONE
        sums[:] = _ZERO
        is_open[:] = True
        for k in range(starts[tile], starts[tile + 1]):
            if (k - starts[tile]) % CHECK == CHECK - 1 and _open_blocks(light, is_open) == 0:
                break
            s = splats[ids[k]]
            color = palette[ids[k] - number * N]
            x, y, xx, xy, yy, log_opacity = s[X] - _F(origin_x), s[Y] - _F(origin_y), s[XX], s[XY], s[YY], s[LOG_OPACITY]
            left, right = _blocks(x, s[HALF_X])
            top, bottom = _blocks(y, s[HALF_Y])
            for block_y in range(top, bottom):
                for block in range(block_y * ROW + left, block_y * ROW + right):
                    if not is_open[block]:
                        continue
                    at = block * LANES
                    dx, dy = x - load(lane_x, at), y - load(lane_y, at)
                    _, weight, _, after = _composite(
                        dx, dy, xx, xy, yy, log_opacity, max_alpha, load(light, at)
                    )
                    store(light, at, after)
                    for d in range(D):
                        place = d * PIXELS + at
                        store(sums, place, load(sums, place) + weight * color[d])
        for py in range(min(TILE, height - origin_y)):
            for px in range(min(TILE, width - origin_x)):
                at = _place(py, px)
                alphas[number, origin_y + py, origin_x + px] = _ONE - abs(light[at])
                for d in range(D):
                    image[number, origin_y + py, origin_x + px, d] = sums[d * PIXELS + at]


@jit
def rasterize_adjoint(
    first, last, splats, colors, images_per_color, starts, ids, size, grid, max_alpha,
    image, alphas, v_image, v_alphas, moments,
):  # fmt: skip
    """Replays `rasterize` front to back and writes what every list entry gets: moments [M, MOMENTS + D].

    With weight = alpha * light, the derivative by an alpha needs only the light before it and the sum of
    everything behind it, which is the final colour less what has been passed: nothing is stored.
    """
    width, height = size
    tiles_x, tiles_y = grid
    N, D = colors.shape[1], colors.shape[2]
    lane_x, lane_y = np.empty(PIXELS, np.float32), np.empty(PIXELS, np.float32)
    _lane_centres(lane_x, lane_y)
    light = np.empty(PIXELS, np.float32)
    behind = np.empty(PIXELS, np.float32)  # gradient . (colour still to come), less that of the final light
    v_color = np.empty(D * PIXELS, np.float32)
    m_color = np.empty(D * LANES, np.float32)
    is_open = np.empty(BLOCKS, np.bool_)
    for tile in range(first, last):
        number = tile // (tiles_x * tiles_y)
        origin_x, origin_y = tile % tiles_x * TILE, tile // tiles_x % tiles_y * TILE
        palette = colors[number // images_per_color]
        light[:] = -_ONE  # pixels outside the picture are closed
        behind[:] = _ZERO
        v_color[:] = _ZERO
        for py in range(min(TILE, height - origin_y)):
            for px in range(min(TILE, width - origin_x)):
                at, row, column = _place(py, px), origin_y + py, origin_x + px
                light[at] = _ONE
                ahead = -v_alphas[number, row, column] * (_ONE - alphas[number, row, column])
                for d in range(D):
                    v_color[d * PIXELS + at] = v_image[number, row, column, d]
                    ahead += v_image[number, row, column, d] * image[number, row, column, d]
                behind[at] = ahead
        _open_blocks(light, is_open)
        for k in range(starts[tile], starts[tile + 1]):
            if (k - starts[tile]) % CHECK == CHECK - 1 and _open_blocks(light, is_open) == 0:
                moments[k : starts[tile + 1]] = _ZERO
                break
            s = splats[ids[k]]
            color = palette[ids[k] - number * N]
            x, y, xx, xy, yy, log_opacity = s[X] - _F(origin_x), s[Y] - _F(origin_y), s[XX], s[XY], s[YY], s[LOG_OPACITY]
            left, right = _blocks(x, s[HALF_X])
            top, bottom = _blocks(y, s[HALF_Y])
            m, mx, my = spread(_ZERO), spread(_ZERO), spread(_ZERO)
            mxx, mxy, myy = spread(_ZERO), spread(_ZERO), spread(_ZERO)
            m_color[:] = _ZERO
            for block_y in range(top, bottom):
                for block in range(block_y * ROW + left, block_y * ROW + right):
                    if not is_open[block]:
                        continue
                    at = block * LANES
                    dx, dy = x - load(lane_x, at), y - load(lane_y, at)
                    before = load(light, at)
                    alpha, weight, counts, after = _composite(dx, dy, xx, xy, yy, log_opacity, max_alpha, before)
                    store(light, at, after)
                    shade = spread(_ZERO)  # gradient . colour
                    for d in range(D):
                        v = load(v_color, d * PIXELS + at)
                        shade = shade + v * color[d]
                        store(m_color, d * LANES, load(m_color, d * LANES) + v * weight)
                    rest = load(behind, at) - weight * shade
                    store(behind, at, rest)
                    # A clamped alpha does not follow its splat.
                    g = select(counts & (alpha < max_alpha), alpha * (before * shade - rest / (_ONE - alpha)), _ZERO)
                    gx, gy = g * dx, g * dy
                    m, mx, my = m + g, mx + gx, my + gy
                    mxx, mxy, myy = mxx + gx * dx, mxy + gx * dy, myy + gy * dy
            out = moments[k]
            out[0], out[1], out[2] = total(m), total(mx), total(my)
            out[3], out[4], out[5] = total(mxx), total(mxy), total(myy)
            for d in range(D):
                out[MOMENTS + d] = total(load(m_color, d * LANES))


@jit
def gather_moments(
    first, last, images_per_color, conics, opacities, counts, begins, slots, moments,
    v_means2d, v_conics, v_opacities, v_colors,
):  # fmt: skip
    """Sums the list entries of the splats first..last of every image into gradients [I, N, …]; v_colors [G, N, D]."""
    I, D = counts.shape[0], v_colors.shape[2]
    sums = np.empty(MOMENTS + D, np.float32)
    for image in range(I):
        for n in range(first, last):
            if counts[image, n] == 0:
                continue
            sums[:] = _ZERO
            begin = begins[image, n]
            for entry in range(begin, begin + counts[image, n]):
                source = moments[slots[entry]]
                for m in range(MOMENTS + D):
                    sums[m] += source[m]
            a, b, c = conics[image, n, 0], conics[image, n, 1], conics[image, n, 2]
            v_means2d[image, n, 0] = -(a * sums[1] + b * sums[2])
            v_means2d[image, n, 1] = -(b * sums[1] + c * sums[2])
            v_conics[image, n, 0] = _F(-0.5) * sums[3]
            v_conics[image, n, 1] = -sums[4]
            v_conics[image, n, 2] = _F(-0.5) * sums[5]
            v_opacities[image, n] = sums[0] / opacities[image, n]
            for d in range(D):
                v_colors[image // images_per_color, n, d] += sums[MOMENTS + d]
