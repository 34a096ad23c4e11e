"""Which splats touch which 16-pixel tile of the image, nearest first, on the graphics card."""

# mypy: ignore-errors
# Warp gives these functions their types; float(1.0) is how it declares a variable.
import warp as wp

from ..stages import ALPHA_MIN, BLUR_SIGMAS, TILE

_ALPHA_MIN, _BLUR_SIGMAS = wp.constant(wp.float32(ALPHA_MIN)), wp.constant(wp.float32(BLUR_SIGMAS))
_LOG2_E = wp.constant(wp.float32(1.4426950408889634))
_UNSEEN = wp.constant(wp.int32(0x7FFFFFFF))

# Mean x, y; the falloff's xx, xy, yy as powers of two; log2 of the opacity.
Splat = wp.types.vector(length=6, dtype=wp.float32)


@wp.kernel(enable_backward=False)
def prepare(
    means2d: wp.array[wp.vec2],  # [I * N] as all here
    conics: wp.array[wp.vec3],
    depths: wp.array[float],
    opacities: wp.array[float],
    radii: wp.array[wp.vec2i],
    width: int,
    height: int,
    splats: wp.array[Splat],
    boxes: wp.array[wp.vec4i],  # tiles x0, y0, x1, y1; ends open
    counts: wp.array[int],
    depth_keys: wp.array[int],
    order: wp.array[int],
):
    n = wp.tid()
    counts[n] = 0
    order[n] = n
    depth_keys[n] = _UNSEEN
    opacity = opacities[n]
    if radii[n][0] == 0 or opacity < _ALPHA_MIN:
        return
    mean, conic = means2d[n], conics[n]
    reach = wp.min(_BLUR_SIGMAS, wp.sqrt(2.0 * wp.log(opacity / _ALPHA_MIN)))
    scale = reach / wp.sqrt(conic[0] * conic[2] - conic[1] * conic[1])
    half_x, half_y = scale * wp.sqrt(conic[2]), scale * wp.sqrt(conic[0])
    x0 = int(wp.max(wp.ceil(mean[0] - half_x - 0.5), 0.0))
    y0 = int(wp.max(wp.ceil(mean[1] - half_y - 0.5), 0.0))
    x1 = int(wp.min(wp.floor(mean[0] + half_x - 0.5), float(width - 1)))
    y1 = int(wp.min(wp.floor(mean[1] + half_y - 0.5), float(height - 1)))
    if x1 < x0 or y1 < y0 or not (half_x >= 0.0 and half_y >= 0.0):
        return
    box = wp.vec4i(x0 // TILE, y0 // TILE, x1 // TILE + 1, y1 // TILE + 1)
    splats[n] = Splat(
        mean[0], mean[1],
        0.5 * _LOG2_E * conic[0], _LOG2_E * conic[1], 0.5 * _LOG2_E * conic[2], wp.log2(opacity),
    )  # fmt: skip
    boxes[n] = box
    counts[n] = (box[2] - box[0]) * (box[3] - box[1])
    depth_keys[n] = wp.cast(depths[n], int)  # the bits of positive floats sort like the floats


@wp.kernel(enable_backward=False)
def emit(
    order: wp.array[int],  # [I * N] nearest first
    ends: wp.array[wp.int64],  # [I * N] running sum of the counts in that order
    counts: wp.array[int],
    boxes: wp.array[wp.vec4i],
    N: int,
    tiles_x: int,
    tiles_y: int,
    tile_keys: wp.array[int],
    ids: wp.array[int],
):
    k = wp.tid()
    n = order[k]
    box = boxes[n]
    place = int(ends[k]) - counts[n]
    first_row = (n // N) * tiles_y
    if counts[n] > 0:
        for y in range(box[1], box[3]):
            for x in range(box[0], box[2]):
                tile_keys[place] = (first_row + y) * tiles_x + x
                ids[place] = n
                place += 1
