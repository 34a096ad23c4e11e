"""Renders objects of signed distances on one core: `sdf.render`, compiled, with smooth edges inside too.

Solids that are further away than the nearest one yet are not looked at closely, which is most of them. What
`sdf.py` says in torch is the reference: both must agree.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from .patterns import _SOFT, _SPOT, Pattern, plain
from .sdf import _HIT_PX, LIGHT, WAVE_LENGTH, Pose, Shape, Solid, rotation

Floats = NDArray[np.float64]

_KINDS = ("ellipsoid", "box", "cylinder", "cone", "torus", "capsule", "prism", "limb", "star", "wedge")
_PATTERNS = ("", "stripes", "spots", "checks")
# Columns of a packed solid.
_SIZE, _AT, _ROT, _ROUND, _FLOOR, _BLEND, _SIDES, _CARVE, _REACH, _KIND = 0, 3, 6, 15, 16, 17, 18, 19, 20, 21
_BELOW, _ABOVE, _PERIOD, _ALONG, _SHIFT, _PATTERN, _COLUMNS = 22, 25, 28, 29, 32, 35, 36
# And of a packed shape: stretch, centre, scale, lower bound's factor, has a pose, and the pose.
_S_STRETCH, _S_CENTER, _S_SCALE, _S_FACTOR, _S_POSED, _S_POSE, _S_COLUMNS = 0, 3, 6, 7, 8, 9, 18
_EDGE = 0.035  # neighbours whose colours differ by more are looked at again, by four rays each
_STEPS = 64


def render(
    shape: Shape,
    cameras: Tensor,  # [V, 4, 4] camera-to-world, looking down -Z
    fov_deg: float,
    size_px: int,
) -> Tensor:  # straight RGBA [V, 4, H, W] in sRGB
    """Renders the object from every camera."""
    solids, whole = _pack(shape)
    bounds = _bounds(shape, solids)
    light = np.array(LIGHT) / np.linalg.norm(LIGHT)
    pixel = 2 * math.tan(math.radians(fov_deg / 2)) / size_px
    images = [
        _render(solids, whole, bounds, light, camera, pixel, size_px) for camera in cameras.double().numpy()
    ]
    return torch.from_numpy(np.stack(images)).float().permute(0, 3, 1, 2).contiguous()


def distances(shape: Shape, points: Tensor) -> tuple[Tensor, Tensor]:  # [R, 3] -> [R], [R]
    """As `sdf.distance`, compiled: signed distances, and the number of the nearest solid."""
    solids, whole = _pack(shape)
    far, nearest = _distances(solids, whole, points.double().numpy())
    return torch.from_numpy(far).float(), torch.from_numpy(nearest)


def _pack(shape: Shape) -> tuple[Floats, Floats]:
    pose = shape.pose or Pose()
    shrunk = 1.0
    if shape.pose:
        wide, high = pose.size * pose.squash**-0.5, pose.size * pose.squash
        shrunk = min(wide, high) / (1 + abs(pose.wave) * 2 * math.pi / WAVE_LENGTH)
    factor = min(shape.stretch) * shape.scale * shrunk
    bent = pose.size, pose.squash, pose.wave, pose.wave_phase
    posed = (*bent, pose.lean, pose.nod, pose.turn, pose.lift, pose.ground)
    whole = [*shape.stretch, *shape.center, shape.scale, factor, float(shape.pose is not None), *posed]
    return np.array([_pack_solid(solid) for solid in shape.solids]), np.array(whole)


def _bounds(shape: Shape, solids: Floats) -> Floats:
    """A sphere in the world that holds each solid: [N, 4], middle and radius."""
    stretch = np.array(shape.stretch)
    middles = (solids[:, _AT : _AT + 3] * stretch - np.array(shape.center)) * shape.scale
    radii = (solids[:, _REACH] + solids[:, _BLEND]) * stretch.max() * shape.scale
    if pose := shape.pose:
        wide, high = pose.size * pose.squash**-0.5, pose.size * pose.squash
        ground = np.array([0.0, 0.0, pose.ground])
        turned = rotation((pose.lean, pose.nod, pose.turn), torch.zeros(1, dtype=torch.float64)).numpy()
        middles = (middles - ground) * [wide, wide, high] @ turned.T + ground + [0.0, 0.0, pose.lift]
        radii = radii * max(wide, high) + abs(pose.wave)
    return np.concatenate([middles, radii[:, None] + 0.01], axis=1)


def _pack_solid(solid: Solid) -> list[float]:
    rotated = rotation(solid.turn, torch.zeros(1, dtype=torch.float64)).T.flatten().tolist()
    floor = -1e9 if solid.floor is None else solid.floor
    pattern = solid.color if isinstance(solid.color, Pattern) else None
    below = plain(solid.color)
    colors = [*below, *(pattern.above if pattern else below)]
    layout = [pattern.size, *pattern.along, *pattern.shift] if pattern else [1.0, *[0.0] * 6]
    return [
        *solid.size,
        *solid.at,
        *rotated,
        *(solid.rounding, floor, solid.blend, float(solid.sides), float(solid.carve)),
        _reach(solid) + solid.rounding,
        float(_KINDS.index(solid.kind)),
        *colors,
        *layout,
        float(_PATTERNS.index(pattern.kind if pattern else "")),
    ]


def _reach(solid: Solid) -> float:
    """Radius of a sphere about the solid's middle that holds it."""
    a, b, c = solid.size
    reach = {
        "ellipsoid": max(a, b, c),
        "cylinder": math.hypot(a, b),
        "cone": math.hypot(max(a, b), c),
        "torus": a + b,
        "capsule": a + b,
        "limb": c + max(a, b),
        "star": math.hypot(max(a, b), c),
    }.get(solid.kind, math.sqrt(a * a + b * b + c * c))
    return reach / math.cos(math.pi / solid.sides) if solid.sides else reach


_fast: Any = njit(cache=True, fastmath=True, error_model="numpy")


@_fast
def _outside(u: float, v: float) -> float:
    """Distance to a corner of two planes that are `u` and `v` away."""
    out = math.sqrt(max(u, 0.0) ** 2 + max(v, 0.0) ** 2)
    return out + min(max(u, v), 0.0)


@_fast
def _primitive(s: Floats, x: float, y: float, z: float) -> float:  # noqa: PLR0911, PLR0912 (a switch)
    a, b, c = s[0], s[1], s[2]
    kind = int(s[_KIND])
    r = math.sqrt(x * x + y * y)
    if kind == 0:
        if a == b and b == c:
            return math.sqrt(x * x + y * y + z * z) - a
        k0 = math.sqrt((x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2)
        k1 = math.sqrt((x / (a * a)) ** 2 + (y / (b * b)) ** 2 + (z / (c * c)) ** 2)
        return k0 * (k0 - 1) / max(k1, 1e-6)
    if kind == 1:
        u, v, w = abs(x) - a, abs(y) - b, abs(z) - c
        out = math.sqrt(max(u, 0.0) ** 2 + max(v, 0.0) ** 2 + max(w, 0.0) ** 2)
        return out + min(max(u, v, w), 0.0)
    if 2 <= kind <= 3:
        if s[_SIDES] > 0:
            half = math.pi / s[_SIDES]
            r *= math.cos((math.atan2(y, x) + half) % (2 * half) - half)
        if kind == 2:
            return _outside(r - a, abs(z) - b)
        side = (r - (a + b) / 2 - (b - a) / 2 * (z / c)) * (2 * c) / math.sqrt(4 * c * c + (a - b) ** 2)
        return _outside(side, abs(z) - c)
    if kind == 4:
        return math.sqrt((r - a) ** 2 + z * z) - b
    if kind == 5:
        return math.sqrt(x * x + y * y + (z - min(max(z, -b), b)) ** 2) - a
    if kind == 6:
        slope = (abs(y) * 2 * c + (z - c) * b) / math.sqrt(b * b + 4 * c * c)
        return max(slope, -c - z, abs(x) - a)
    if kind == 7:
        z, lean = z + c, (a - b) / (2 * c)
        side = math.sqrt(1 - lean * lean)
        along = side * z - lean * r
        if along < 0:
            return math.sqrt(r * r + z * z) - a
        if along > 2 * c * side:
            return math.sqrt(r * r + (z - 2 * c) ** 2) - b
        return r * side + z * lean - a
    if kind == 8:
        tip = math.pi / 5
        angle = abs((math.atan2(y, x) / tip + 1) % 2 - 1) * tip
        ex, ey = b * math.cos(tip) - a, b * math.sin(tip)
        flat = ((r * math.cos(angle) - a) * ey - r * math.sin(angle) * ex) / math.sqrt(ex * ex + ey * ey)
        return max(flat, abs(z) - c)
    slope = (x * c + z * a) / math.sqrt(a * a + c * c)
    return max(slope, -c - z, -a - x, abs(y) - b)


@_fast
def _at_rest(w: Floats, x: float, y: float, z: float) -> tuple[float, float, float]:
    """A point of the world in the space of the solids."""
    if w[_S_POSED] > 0:
        size, squash, wave, phase, lean = w[9], w[10], w[11], w[12], w[13]
        nod, turn, lift, ground = w[14], w[15], w[16], w[17]
        z -= ground + lift
        c, s = math.cos(-turn), math.sin(-turn)
        x, y = c * x - s * y, s * x + c * y
        c, s = math.cos(-lean), math.sin(-lean)
        y, z = c * y - s * z, s * y + c * z
        c, s = math.cos(-nod), math.sin(-nod)
        z, x = c * z - s * x, s * z + c * x
        towards_tail = min(max(0.5 - x, 0.0), 1.0)
        y -= wave * (1 / 3 + 2 / 3 * towards_tail) * math.sin(2 * math.pi / WAVE_LENGTH * x + phase)
        wide, high = size / math.sqrt(squash), size * squash
        x, y, z = x / wide, y / wide, z / high + ground
    scale = w[_S_SCALE]
    return (x / scale + w[3]) / w[0], (y / scale + w[4]) / w[1], (z / scale + w[5]) / w[2]


@_fast
def _distance_to(
    solids: Floats, some: NDArray[np.int64], count: int, w: Floats, x: float, y: float, z: float
) -> tuple[float, int]:
    """Of the first `count` of `some` solids."""
    x, y, z = _at_rest(w, x, y, z)
    best, nearest = 1e9, 0
    for k in range(count):
        i = some[k]
        s = solids[i]
        dx, dy, dz = x - s[3], y - s[4], z - s[5]
        near = s[_REACH] + (-best if s[_CARVE] > 0 else best + s[_BLEND])  # it matters within this distance
        if near < 0 or dx * dx + dy * dy + dz * dz > near * near:
            continue
        lx = s[6] * dx + s[7] * dy + s[8] * dz
        ly = s[9] * dx + s[10] * dy + s[11] * dz
        lz = s[12] * dx + s[13] * dy + s[14] * dz
        d = max(_primitive(s, lx, ly, lz) - s[_ROUND], s[_FLOOR] - lz)
        if s[_CARVE] > 0:
            if -d > best:
                best, nearest = -d, i
            continue
        blend = s[_BLEND]
        h = max(blend - abs(best - d), 0.0)
        if d < best:
            best, nearest = d, i
        if h > 0:
            best -= h * h / (4 * blend)
    return best * w[_S_FACTOR], nearest


@_fast
def _distances(solids: Floats, w: Floats, points: Floats) -> tuple[Floats, NDArray[np.int64]]:
    far, nearest, every = np.empty(len(points)), np.empty(len(points), np.int64), np.arange(len(solids))
    for i in range(len(points)):
        far[i], nearest[i] = _distance_to(
            solids, every, len(solids), w, points[i, 0], points[i, 1], points[i, 2]
        )
    return far, nearest


@_fast
def _wave(x: float, period: float) -> float:
    return (0.25 - abs(x / period % 1 - 0.5)) * period


@_fast
def _spot(x: float, y: float, z: float, size: float) -> float:
    x, y, z = x - size * round(x / size), y - size * round(y / size), z - size * round(z / size)
    return math.sqrt(x * x + y * y + z * z)


@_fast
def _weight(s: Floats, x: float, y: float, z: float) -> float:
    """How much of a pattern's second colour there is at a point of the solids' space."""
    x, y, z, size = x - s[_SHIFT], y - s[_SHIFT + 1], z - s[_SHIFT + 2], s[_PERIOD]
    kind = int(s[_PATTERN])
    if kind == 1:
        into = _wave(x * s[_ALONG] + y * s[_ALONG + 1] + z * s[_ALONG + 2], size)
    elif kind == 2:
        half = size / 2
        into = _SPOT * half - min(_spot(x, y, z, size), _spot(x - half, y - half, z - half, size))
    else:
        u, v, t = _wave(x, size), _wave(y, size), _wave(z, size)
        into = min(abs(u), abs(v), abs(t))
        if (u < 0) ^ (v < 0) ^ (t < 0):
            into = -into
    return min(max(0.5 + into / _SOFT, 0.0), 1.0)


@_fast
def _shade(
    solids: Floats, every: NDArray[np.int64], w: Floats, light: Floats, x: float, y: float, z: float
) -> tuple[float, float, float]:
    """sRGB of a point on the surface."""
    e, n = 2e-3, len(solids)
    p = _distance_to(solids, every, n, w, x + e, y - e, z - e)[0]
    q = _distance_to(solids, every, n, w, x - e, y - e, z + e)[0]
    r = _distance_to(solids, every, n, w, x - e, y + e, z - e)[0]
    t = _distance_to(solids, every, n, w, x + e, y + e, z + e)[0]
    nx, ny, nz = p - q - r + t, -p - q + r + t, -p + q - r + t
    length = max(math.sqrt(nx * nx + ny * ny + nz * nz), 1e-12)
    nx, ny, nz = nx / length, ny / length, nz / length
    key = max(nx * light[0] + ny * light[1] + nz * light[2], 0.0)
    free = _distance_to(solids, every, n, w, x + 0.08 * nx, y + 0.08 * ny, z + 0.08 * nz)[0] / 0.08
    lit = 0.75 * key + (0.2 + 0.35 * (0.5 + 0.5 * nz)) * min(max(free, 0.25), 1.0)
    s = solids[_distance_to(solids, every, n, w, x, y, z)[1]]
    part = 0.0
    if s[_PATTERN] > 0:
        lx, ly, lz = _at_rest(w, x, y, z)
        part = _weight(s, lx, ly, lz)
    red = s[_BELOW] + part * (s[_ABOVE] - s[_BELOW])
    green = s[_BELOW + 1] + part * (s[_ABOVE + 1] - s[_BELOW + 1])
    blue = s[_BELOW + 2] + part * (s[_ABOVE + 2] - s[_BELOW + 2])
    return (
        min(red**2.2 * lit, 1.0) ** (1 / 2.2),
        min(green**2.2 * lit, 1.0) ** (1 / 2.2),
        min(blue**2.2 * lit, 1.0) ** (1 / 2.2),
    )


@_fast
def _ray(
    solids: Floats,
    w: Floats,
    bounds: Floats,
    light: Floats,
    camera: Floats,
    u: float,
    v: float,
    pixel: float,
    every: NDArray[np.int64],  # [N], 0, 1, 2 ...
    some: NDArray[np.int64],  # [N], to work in
) -> tuple[float, float, float, float, float]:
    """Colour, coverage and depth of what a ray meets; coverage is from its closest approach, in pixels."""
    length = math.sqrt(u * u + v * v + 1)
    dx = (camera[0, 0] * u + camera[0, 1] * v - camera[0, 2]) / length
    dy = (camera[1, 0] * u + camera[1, 1] * v - camera[1, 2]) / length
    dz = (camera[2, 0] * u + camera[2, 1] * v - camera[2, 2]) / length
    ox, oy, oz = camera[0, 3], camera[1, 3], camera[2, 3]
    t, far, count = 1e9, 0.0, 0
    for i in range(len(bounds)):
        bx, by, bz = bounds[i, 0] - ox, bounds[i, 1] - oy, bounds[i, 2] - oz
        middle = bx * dx + by * dy + bz * dz
        chord = bounds[i, 3] ** 2 - (bx * bx + by * by + bz * bz) + middle * middle
        if chord > 0:
            half = math.sqrt(chord)
            some[count] = i
            count += 1
            if solids[i, _CARVE] == 0:
                t, far = min(t, middle - half), max(far, middle + half)
    if far == 0:
        return 0.0, 0.0, 0.0, 0.0, 0.0
    t = max(t, 0.01)
    closest, depth = 1e9, t
    for _ in range(_STEPS):
        d = _distance_to(solids, some, count, w, ox + t * dx, oy + t * dy, oz + t * dz)[0]
        gap = d / (t * pixel)
        if gap < closest:
            closest, depth = gap, t
        if gap < _HIT_PX:
            break
        t += d
        if t > far:
            break
    coverage = min(max((1 - closest) / (1 - _HIT_PX), 0.0), 1.0)
    if coverage == 0:
        return 0.0, 0.0, 0.0, 0.0, 0.0
    red, green, blue = _shade(solids, every, w, light, ox + depth * dx, oy + depth * dy, oz + depth * dz)
    return red, green, blue, coverage, depth


@_fast
def _render(
    solids: Floats, w: Floats, bounds: Floats, light: Floats, camera: Floats, pixel: float, size: int
) -> Floats:
    """One view, [H, W, 4]."""
    once = np.zeros((size, size, 5))
    some = np.empty(len(solids), np.int64)
    every = np.arange(len(solids))
    for i in range(size):
        for j in range(size):
            u, v = (j + 0.5 - size / 2) * pixel, (size / 2 - i - 0.5) * pixel
            once[i, j] = _ray(solids, w, bounds, light, camera, u, v, pixel, every, some)
    image = once[:, :, :4].copy()
    for i in range(1, size - 1):
        for j in range(1, size - 1):
            if not _uneven(once, i, j):
                continue
            total = np.zeros(4)
            for part in range(4):  # a turned grid
                ou, ov = (0.125, 0.375, -0.375, -0.125)[part], (0.375, -0.125, 0.125, -0.375)[part]
                u, v = (j + 0.5 + ou - size / 2) * pixel, (size / 2 - i - 0.5 - ov) * pixel
                red, green, blue, cover, _ = _ray(
                    solids, w, bounds, light, camera, u, v, pixel / 2, every, some
                )
                total += np.array([red * cover, green * cover, blue * cover, cover])
            image[i, j, :3] = total[:3] / max(total[3], 1e-6)
            image[i, j, 3] = total[3] / 4
    return image


@_fast
def _uneven(once: Floats, i: int, j: int) -> bool:
    """Whether a pixel differs from one beside it."""
    for k in range(4):
        y, x = (i - 1, i + 1, i, i)[k], (j, j, j - 1, j + 1)[k]
        if abs(once[i, j, 3] - once[y, x, 3]) > 0.01:
            return True
        for c in range(3):
            if abs(once[i, j, c] - once[y, x, c]) > _EDGE:
                return True
    return False
