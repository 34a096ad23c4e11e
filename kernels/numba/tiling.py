"""Which splats touch which 16-pixel tile of the image, nearest first."""

# (numba gives these functions their types)
from __future__ import annotations

import numpy as np

from ..stages import ALPHA_MIN, BLUR_SIGMAS, TILE
from .jit import jit

_F = np.float32
_LOG2_E = _F(np.log2(np.e))
_REACH = _F(BLUR_SIGMAS)

# One splat as the rasteriser wants it: mean x, y; the falloff's xx, xy, yy as powers of two; log2 of the
# opacity; and how the falloff's ridge leans: d/dx of y where it is largest in a column, d/dy of x in a row.
X, Y, XX, XY, YY, LOG_OPACITY, LEAN_Y, LEAN_X, FIELDS = 0, 1, 2, 3, 4, 5, 6, 7, 8


@jit
def prepare(first, last, means2d, conics, opacities, radii, width, height, splats, boxes, counts):
    """Fills splats [N, FIELDS], tile boxes [N, 4] (x0, y0, x1, y1; ends open) and counts [N] of an image."""
    for n in range(first, last):
        counts[n] = 0
        if radii[n, 0] == 0 or opacities[n] < _F(ALPHA_MIN):
            continue
        a, b, c = conics[n, 0], conics[n, 1], conics[n, 2]
        reach = min(_REACH, np.sqrt(_F(2) * np.log(opacities[n] / _F(ALPHA_MIN))))
        scale = reach / np.sqrt(a * c - b * b)
        x, y, half_x, half_y = means2d[n, 0], means2d[n, 1], scale * np.sqrt(c), scale * np.sqrt(a)
        x0 = np.int32(max(np.ceil(x - half_x - _F(0.5)), _F(0)))
        y0 = np.int32(max(np.ceil(y - half_y - _F(0.5)), _F(0)))
        x1 = np.int32(min(np.floor(x + half_x - _F(0.5)), _F(width - 1)))
        y1 = np.int32(min(np.floor(y + half_y - _F(0.5)), _F(height - 1)))
        if x1 < x0 or y1 < y0 or not (half_x >= _F(0) and half_y >= _F(0)):
            continue
        splats[n, X], splats[n, Y] = x, y
        splats[n, XX] = _F(0.5) * _LOG2_E * a
        splats[n, XY] = _LOG2_E * b
        splats[n, YY] = _F(0.5) * _LOG2_E * c
        splats[n, LOG_OPACITY] = np.log2(opacities[n])
        splats[n, LEAN_Y], splats[n, LEAN_X] = -b / c, -b / a
        boxes[n, 0], boxes[n, 1] = x0 // TILE, y0 // TILE
        boxes[n, 2], boxes[n, 3] = x1 // TILE + 1, y1 // TILE + 1
        counts[n] = (boxes[n, 2] - boxes[n, 0]) * (boxes[n, 3] - boxes[n, 1])


@jit
def sort_by_depth(depths, counts, order, keys, other_order, other_keys):
    """Lists the splats of one image that are seen, nearest first, into `order`; returns how many.

    A stable radix sort, 11 bits at a time: the bits of positive floats sort like the floats.
    The last three arguments are scratch of the size of `order`.
    """
    bits = depths.view(np.uint32)
    seen = 0
    for n in range(len(counts)):
        if counts[n] > 0:
            keys[seen] = bits[n]
            order[seen] = n
            seen += 1
    histogram = np.zeros((3, 2049), np.int64)
    for k in range(seen):
        for digit in range(3):
            histogram[digit, ((keys[k] >> (11 * digit)) & 2047) + 1] += 1
    for digit in range(3):
        start = histogram[digit]
        for bucket in range(2048):
            start[bucket + 1] += start[bucket]
        for k in range(seen):
            bucket = (keys[k] >> (11 * digit)) & 2047
            other_keys[start[bucket]], other_order[start[bucket]] = keys[k], order[k]
            start[bucket] += 1
        keys, other_keys = other_keys, keys
        order, other_order = other_order, order
    other_order[:seen] = order[:seen]  # three passes: the result lies in the scratch
    return seen


@jit
def count_tiles(order, first, last, boxes, tiles_x, histogram):
    """Counts into histogram [tiles] how many of the splats order[first:last] reach each tile."""
    for k in range(first, last):
        n = order[k]
        for y in range(boxes[n, 1], boxes[n, 3]):
            for x in range(boxes[n, 0], boxes[n, 2]):
                histogram[y * tiles_x + x] += 1


@jit
def start_tiles(histograms, start, offsets):
    """Turns the counts [parts, tiles] of one image into where each part starts in each tile's list."""
    for tile in range(histograms.shape[1]):
        offsets[tile] = start
        for part in range(histograms.shape[0]):
            count = histograms[part, tile]
            histograms[part, tile] = start
            start += count
    return start


@jit
def fill_tiles(order, first, last, boxes, tiles_x, cursor, begin, image_start, flatten_ids, slots):
    """Writes the splats order[first:last] to their tiles' lists, in order.

    slots[place] = begin[n] + i for the i-th entry of splat n: where its gradients go, to be summed in a row.
    """
    for k in range(first, last):
        n = order[k]
        entry = begin[n]
        for y in range(boxes[n, 1], boxes[n, 3]):
            for x in range(boxes[n, 0], boxes[n, 2]):
                tile = y * tiles_x + x
                place = cursor[tile]
                cursor[tile] = place + 1
                flatten_ids[place] = image_start + n
                slots[place] = entry
                entry += 1
