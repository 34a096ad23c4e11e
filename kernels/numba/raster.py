"""Splats to pixels on the processor: tiles of 4 by 4 blocks, one block of 16 pixels a vector.

The state of a tile (light left, colour sums, …) is kept block by block: entry block * 16 + lane.
"""

# mypy: disable-error-code="call-arg, var-annotated"
# (numba types these functions, and passes an intrinsic its first argument itself)
from __future__ import annotations

import numpy as np

from ..stages import ALPHA_MIN, TILE, TRANSMITTANCE_MIN
from .jit import inline, jit
from .simd import (
    LANES,
    any_lane,
    bits,
    exp2,
    highest,
    load,
    lowest,
    lowest_bit,
    prefetch,
    select,
    spread,
    store,
    store_set_lanes,
    take,
    total,
)
from .tiling import FIELDS, LEAN_X, LEAN_Y, LOG_OPACITY, XX, XY, YY, X, Y

SIDE = 4  # pixels along one side of a block
ROW = TILE // SIDE  # blocks along one side of a tile
ALL_BLOCKS = (1 << ROW * ROW) - 1
PIXELS = TILE * TILE
MOMENTS = 6  # sums of s, s dx, s dy, s dx^2, s dx dy, s dy^2 with s = gradient * alpha

_F = np.float32
_ZERO, _ONE = _F(0), _F(1)
_LOG_ALPHA_MIN = _F(np.log2(ALPHA_MIN))
_FAINT = _F(-20)  # powers of two below this are all the same to us
_CLOSED = _F(TRANSMITTANCE_MIN)
BATCH = 32  # list entries looked at together
_SLACK = _F(1e-4)  # in powers of two: rounding must not cull a block that a splat just touches


@inline
def _reached_blocks(splat, lows):
    """The blocks of a tile, as bits, in which some pixel sees the splat; here a lane is a block.

    In a box that does not hold the mean, the falloff is largest on one of the two sides that face it.
    """
    left, top = load(lows[0], 0) - splat[X], load(lows[1], 0) - splat[Y]
    right, bottom = left + _F(SIDE - 1), top + _F(SIDE - 1)
    near_x, near_y = highest(lowest(right, _ZERO), left), highest(lowest(bottom, _ZERO), top)
    best_y = highest(lowest(near_x * splat[LEAN_Y], bottom), top)
    best_x = highest(lowest(near_y * splat[LEAN_X], right), left)
    xx, xy, yy = splat[XX], splat[XY], splat[YY]
    on_x_side = xx * near_x * near_x + xy * near_x * best_y + yy * best_y * best_y
    on_y_side = xx * best_x * best_x + xy * best_x * near_y + yy * near_y * near_y
    return bits(lowest(on_x_side, on_y_side) <= splat[LOG_OPACITY] - (_LOG_ALPHA_MIN - _SLACK))


@inline
def _fetch(
    first, last, splats, ids, palette, channels, base, corner, lows, is_open, near, tints, reached,
):  # fmt: skip
    """Copies the list entries first..last next to each other, tile-relative, with the open blocks they reach.

    A pass of its own, because it has no branch to mispredict: the waits for scattered memory overlap.
    """
    for entry in range(last - first):
        # What the next batch will want; an address that is not there does no harm.
        ahead = ids[min(first + entry + BATCH, len(ids) - 1)]
        prefetch(splats, ahead)
        prefetch(palette, max(ahead - base, 0))
        splat, own = splats[ids[first + entry]], near[entry]
        for field in range(FIELDS):
            own[field] = splat[field]
        own[X] -= corner[0]
        own[Y] -= corner[1]
        tint, color = tints[entry], palette[ids[first + entry] - base]
        for d in range(len(channels)):
            tint[d] = color[d]
        reached[entry] = _reached_blocks(own, lows) & is_open


@inline
def _vectors(count):
    """Room for float32 lanes that begins at a cache line: a vector across two of them costs twice."""
    room = np.empty(count + LANES, np.float32)
    skip = -(room.ctypes.data // 4) % LANES
    return room[skip : skip + count]


@inline
def _centres():
    """Pixel centres of a tile at the origin: x, y [PIXELS] block by block; those of the blocks' corners."""
    x, y = _vectors(PIXELS), _vectors(PIXELS)
    left, top = _vectors(LANES), _vectors(LANES)
    for at in range(PIXELS):
        block, lane = at // LANES, at % LANES
        x[at] = _F(block % ROW * SIDE + lane % SIDE) + _F(0.5)
        y[at] = _F(block // ROW * SIDE + lane // SIDE) + _F(0.5)
    left[:], top[:] = x[::LANES], y[::LANES]
    return x, y, (left, top)


@inline
def _place(y, x):
    """Where the pixel (y, x) of a tile lies in its state."""
    return ((y // SIDE) * ROW + x // SIDE) * LANES + y % SIDE * SIDE + x % SIDE


@inline
def _composite(dx, dy, splat, max_alpha, before):
    """One splat over 16 pixels: its alpha, what it takes of the light, where it counts, the light after it.

    Light is negative in a pixel that is closed: one that this splat would leave less than TRANSMITTANCE_MIN.
    """
    power = splat[LOG_OPACITY] - (splat[XX] * dx * dx + splat[XY] * dx * dy + splat[YY] * dy * dy)
    alpha = lowest(exp2(lowest(highest(power, _FAINT), _ZERO)), max_alpha)
    taken = alpha * before
    enough = before - taken > _CLOSED
    touched = (power >= _LOG_ALPHA_MIN) & (before > _ZERO)
    counts = touched & enough
    weight = select(counts, taken, _ZERO)
    # Not select(touched, …, before): that becomes a masked store, which the next splat's load must wait for.
    after = before - weight
    return alpha, weight, counts, select(touched & ~enough, _ZERO - after, after)


@jit
def rasterize(
    turns, splats, colors, images_per_color, channels, starts, ids, size, grid, max_alpha, image, alphas
):
    """Composites tiles, counted over all images, taking the next one from turns [1] until none is left.

    splats [I * N, FIELDS], colors [G, N, D] with I = G * images_per_color, starts [tiles + 1], ids [M],
    channels any D items, size (width, height), grid (tiles_x, tiles_y).
    Writes image [I, H, W, D] and alphas [I, H, W].
    """
    width, height = size
    tiles_x, tiles_y = grid
    N, D = colors.shape[1], len(channels)
    lane_x, lane_y, lows = _centres()
    light = _vectors(PIXELS)
    sums = _vectors(D * PIXELS)
    near, tints = np.empty((BATCH, FIELDS), np.float32), np.empty((BATCH, D), np.float32)
    reached, touch = np.empty(BATCH, np.int64), np.empty((BATCH + 1) * LANES, np.int32)
    tile = take(turns)
    while tile < len(starts) - 1:
        number = tile // (tiles_x * tiles_y)
        origin_x, origin_y = tile % tiles_x * TILE, tile // tiles_x % tiles_y * TILE
        corner = _F(origin_x), _F(origin_y)
        palette = colors[number // images_per_color]
        light[:] = _ONE
        sums[:] = _ZERO
        is_open = ALL_BLOCKS
        for start in range(starts[tile], starts[tile + 1], BATCH):
            if is_open == 0:
                break
            stop = min(start + BATCH, starts[tile + 1])
            _fetch(
                start, stop, splats, ids, palette, channels, number * N, corner, lows, is_open,
                near, tints, reached,
            )  # fmt: skip
            touches = 0
            for entry in range(stop - start):
                touches += store_set_lanes(touch, touches, reached[entry], np.int32(entry * LANES))
            for t in range(touches):
                entry, block = touch[t] // LANES, touch[t] % LANES
                at = block * LANES
                s = near[entry]
                dx, dy = s[X] - load(lane_x, at), s[Y] - load(lane_y, at)
                _, weight, _, after = _composite(dx, dy, s, max_alpha, load(light, at))
                store(light, at, after)
                for d in range(D):
                    place = d * PIXELS + at
                    store(sums, place, load(sums, place) + weight * tints[entry, d])
            for block in range(ROW * ROW):
                if not any_lane(load(light, block * LANES) > _ZERO):
                    is_open &= ~(1 << block)
        for py in range(min(TILE, height - origin_y)):
            for px in range(min(TILE, width - origin_x)):
                at = _place(py, px)
                alphas[number, origin_y + py, origin_x + px] = _ONE - abs(light[at])
                for d in range(D):
                    image[number, origin_y + py, origin_x + px, d] = sums[d * PIXELS + at]
        tile = take(turns)


@jit
def rasterize_adjoint(  # noqa: PLR0915
    turns, splats, colors, images_per_color, channels, starts, ids, size, grid, max_alpha,
    image, alphas, v_image, v_alphas, slots, moments,
):  # fmt: skip
    """Replays `rasterize` front to back and writes what every list entry gets.

    moments [M, MOMENTS + D] must come in as zeros.
    With weight = alpha * light, the derivative by an alpha needs only the light before it and the sum of
    everything behind it, which is the final colour less what has been passed: nothing is stored.
    """
    width, height = size
    tiles_x, tiles_y = grid
    N, D = colors.shape[1], len(channels)
    lane_x, lane_y, lows = _centres()
    light = _vectors(PIXELS)
    behind = _vectors(PIXELS)  # gradient . (colour still to come), less that of the final light
    v_color = _vectors(D * PIXELS)
    m_color = _vectors(D * LANES)
    near, tints = np.empty((BATCH, FIELDS), np.float32), np.empty((BATCH, D), np.float32)
    reached = np.empty(BATCH, np.int64)
    tile = take(turns)
    while tile < len(starts) - 1:
        number = tile // (tiles_x * tiles_y)
        origin_x, origin_y = tile % tiles_x * TILE, tile // tiles_x % tiles_y * TILE
        corner = _F(origin_x), _F(origin_y)
        palette = colors[number // images_per_color]
        light[:] = -_ONE  # pixels outside the image are closed
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
        is_open = ALL_BLOCKS
        for start in range(starts[tile], starts[tile + 1], BATCH):
            if is_open == 0:
                break
            stop = min(start + BATCH, starts[tile + 1])
            _fetch(
                start, stop, splats, ids, palette, channels, number * N, corner, lows, is_open,
                near, tints, reached,
            )  # fmt: skip
            for entry in range(stop - start):
                blocks = reached[entry] & is_open
                if blocks == 0:
                    continue
                s = near[entry]
                m, mx, my = spread(_ZERO), spread(_ZERO), spread(_ZERO)
                mxx, mxy, myy = spread(_ZERO), spread(_ZERO), spread(_ZERO)
                m_color[:] = _ZERO
                while blocks != 0:
                    block = lowest_bit(blocks)
                    blocks &= blocks - 1
                    at = block * LANES
                    dx, dy = s[X] - load(lane_x, at), s[Y] - load(lane_y, at)
                    before = load(light, at)
                    alpha, weight, counts, after = _composite(dx, dy, s, max_alpha, before)
                    store(light, at, after)
                    if not any_lane(after > _ZERO):
                        is_open &= ~(1 << block)
                    shade = spread(_ZERO)  # gradient . colour
                    for d in range(D):
                        v = load(v_color, d * PIXELS + at)
                        shade = shade + v * tints[entry, d]
                        store(m_color, d * LANES, load(m_color, d * LANES) + v * weight)
                    rest = load(behind, at) - weight * shade
                    store(behind, at, rest)
                    # A clamped alpha does not follow its splat.
                    g = select(
                        counts & (alpha < max_alpha),
                        alpha * (before * shade - rest / (_ONE - alpha)),
                        _ZERO,
                    )
                    gx, gy = g * dx, g * dy
                    m, mx, my = m + g, mx + gx, my + gy
                    mxx, mxy, myy = mxx + gx * dx, mxy + gx * dy, myy + gy * dy
                out = moments[slots[start + entry]]
                out[0], out[1], out[2] = total(m), total(mx), total(my)
                out[3], out[4], out[5] = total(mxx), total(mxy), total(myy)
                for d in range(D):
                    out[MOMENTS + d] = total(load(m_color, d * LANES))
        tile = take(turns)


@jit
def gather_moments(
    first, last, images_per_color, conics, opacities, counts, begins, moments,
    v_means2d, v_conics, v_opacities, v_colors,
):  # fmt: skip
    """Sums the entries of the splats first..last of every image to gradients; v_colors is [G, N, D]."""
    I, D = counts.shape[0], v_colors.shape[2]
    sums = np.empty(MOMENTS + D, np.float32)
    for image in range(I):
        for n in range(first, last):
            if counts[image, n] == 0:
                continue
            sums[:] = _ZERO
            begin = begins[image, n]
            for entry in range(begin, begin + counts[image, n]):
                source = moments[entry]
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
