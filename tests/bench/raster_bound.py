"""How fast the CPU rasteriser could at best be on this machine, from its arithmetic alone.

The pixel loop works on blocks of 16 pixels, one vector each. A block that a splat touches costs, in vector
operations (a fused multiply-add counts as one):

     2  offsets from the mean               3  alpha, taken light, remaining light
     6  falloff, as a power of two          3  comparisons: visible, still open, enough light left
     2  clamping it                         4  weight, new light, closing the pixel
    11  2^x: split, 5 multiply-adds, scale  1  is any pixel still open?
                                            D  one multiply-add a channel

that is 32 + D; a list entry costs 26 for finding which blocks it touches: the falloff on the two facing sides
of 16 blocks, again one vector. Loads, stores and the scalar bookkeeping go through other ports and are left
out, so the bound cannot be reached; it says how much there could be to gain. The time of one vector operation
is measured: 16 independent chains of multiply-adds.
"""

from __future__ import annotations

import numba
import numpy as np

from kernels.numba import raster
from kernels.numba.simd import any_lane, load, lowest_bit, spread, store, total
from kernels.numba.tiling import FIELDS, X, Y

PER_BLOCK, PER_ENTRY = 32, 26


@numba.njit(fastmath=True)
def _multiply_adds(turns, factor, term):
    """16 * turns independent vector multiply-adds."""
    a, b, c, d = spread(term), spread(factor), spread(term), spread(factor)
    e, f, g, h = spread(term), spread(factor), spread(term), spread(factor)
    i, j, k, l = spread(term), spread(factor), spread(term), spread(factor)
    m, n, o, p = spread(term), spread(factor), spread(term), spread(factor)
    for _ in range(turns):
        a, b, c, d = a * factor + term, b * factor + term, c * factor + term, d * factor + term
        e, f, g, h = e * factor + term, f * factor + term, g * factor + term, h * factor + term
        i, j, k, l = i * factor + term, j * factor + term, k * factor + term, l * factor + term
        m, n, o, p = m * factor + term, n * factor + term, o * factor + term, p * factor + term
    return total(a + b + c + d + e + f + g + h + i + j + k + l + m + n + o + p)


def million_vector_operations() -> None:
    _multiply_adds(62_500, np.float32(0.999), np.float32(1e-3))


@numba.njit(fastmath=raster.rasterize.targetoptions["fastmath"])
def count_work(splats, colors, images_per_color, channels, starts, ids, size, grid, max_alpha):
    """List entries looked at and blocks composited by `raster.rasterize` with the same arguments."""
    tiles_x, tiles_y = grid
    N = colors.shape[1]
    lane_x, lane_y, lows = raster._centres()
    light = np.empty(raster.PIXELS, np.float32)
    near, tints = (
        np.empty((raster.BATCH, FIELDS), np.float32),
        np.empty((raster.BATCH, len(channels)), np.float32),
    )
    reached = np.empty(raster.BATCH, np.int64)
    entries, blocks = 0, 0
    for tile in range(len(starts) - 1):
        number = tile // (tiles_x * tiles_y)
        corner = np.float32(tile % tiles_x * raster.TILE), np.float32(tile // tiles_x % tiles_y * raster.TILE)
        palette = colors[number // images_per_color]
        light[:] = 1
        is_open = raster.ALL_BLOCKS
        for start in range(starts[tile], starts[tile + 1], raster.BATCH):
            if is_open == 0:
                break
            stop = min(start + raster.BATCH, starts[tile + 1])
            raster._fetch(
                start, stop, splats, ids, palette, channels, number * N, corner, lows, is_open,
                near, tints, reached,
            )  # fmt: skip
            entries += stop - start
            for entry in range(stop - start):
                left = reached[entry]
                s = near[entry]
                while left != 0:
                    block = lowest_bit(left)
                    left &= left - 1
                    blocks += 1
                    at = block * raster.LANES
                    _, _, _, after = raster._composite(
                        s[X] - load(lane_x, at), s[Y] - load(lane_y, at), s, max_alpha, load(light, at)
                    )
                    store(light, at, after)
            for block in range(raster.ROW * raster.ROW):
                if not any_lane(load(light, block * raster.LANES) > np.float32(0)):
                    is_open &= ~(1 << block)
    return entries, blocks
