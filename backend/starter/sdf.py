"""Draws objects made of simple solids: signed distances, sphere tracing and shading, on any torch device."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .patterns import Color, Vec3, albedo

_HIT_PX = 0.05  # a ray that comes so near, in pixels, has arrived
LIGHT = (0.55, -0.35, 0.75)  # towards the key light, fixed in the world: shading belongs to the object


@dataclass(frozen=True)
class Solid:
    """One primitive of an object, in object space (Z up, front +X).

    Attributes:
        kind: ellipsoid | box | cylinder | cone | torus | capsule | prism | limb | star | wedge.
        size: ellipsoid: radii; box: half extents; cylinder: (radius, half height, -); cone: (bottom radius,
            top radius, half height); torus: (ring radius, tube radius, -); capsule: (radius, half length
            between its centres, -); prism (a gable roof): half extents, ridge along X.
        at: position of the centre.
        color: sRGB albedo.
        turn: rotation in radians about X, then Y, then Z.
        rounding: radius added to every edge.
        floor: the solid is cut off below this local z.
        blend: width of the smooth union with the solids before it (0: a sharp one).
        sides: of a cylinder or cone that is not round.
        carve: it is taken away from the solids before it.
    """

    kind: str
    size: Vec3
    at: Vec3
    color: Color
    turn: Vec3 = (0.0, 0.0, 0.0)
    rounding: float = 0.0
    floor: float | None = None
    blend: float = 0.0
    sides: int = 0
    carve: bool = False


@dataclass(frozen=True)
class Pose:
    """How an object stands, is bent and stretched at one moment; the default leaves it as it is.

    Attributes:
        size: a factor, from the point it stands on.
        squash: how much taller it is than at rest; it keeps its volume.
        wave: how far its tail swings sideways (along Y), in metres; its nose (on +X) swings a third as far.
        wave_phase: of that swing, in radians.
        lean: sideways about the point it stands on, in radians.
        nod: forwards about that point, in radians.
        turn: about the vertical, in radians.
        lift: metres above the ground.
        ground: the height of the point it stands on.
    """

    size: float = 1.0
    squash: float = 1.0
    wave: float = 0.0
    wave_phase: float = 0.0
    lean: float = 0.0
    nod: float = 0.0
    turn: float = 0.0
    lift: float = 0.0
    ground: float = -0.42


WAVE_LENGTH = 1.3  # metres


@dataclass(frozen=True)
class Shape:
    """An object: solids, the similarity that puts them inside the unit of the world, and a pose there."""

    solids: tuple[Solid, ...]
    stretch: Vec3 = (1.0, 1.0, 1.0)
    center: Vec3 = (0.0, 0.0, 0.0)
    scale: float = 1.0
    pose: Pose | None = None


def rotation(turn: Vec3, like: Tensor) -> Tensor:  # [3, 3], object_from_local
    """Rotation about X, then Y, then Z, in radians."""
    cx, cy, cz = map(math.cos, turn)
    sx, sy, sz = map(math.sin, turn)
    return like.new_tensor(
        [
            [cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx],
            [sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx],
            [-sy, cy * sx, cy * cx],
        ]
    )


def solid_distance(solid: Solid, points: Tensor) -> Tensor:  # [R, 3] -> [R]
    """Signed distance to one solid (a lower bound for ellipsoids and prisms)."""
    p = points - points.new_tensor(solid.at)
    if any(solid.turn):
        p = p @ rotation(solid.turn, p)
    x, y, z = p.unbind(-1)
    a, b, c = solid.size
    match solid.kind:
        case "ellipsoid":
            r = p.new_tensor(solid.size)
            k0 = (p / r).norm(dim=-1)
            d = k0 * (k0 - 1) / (p / r**2).norm(dim=-1).clamp_min(1e-6)
        case "box":
            q = p.abs() - p.new_tensor(solid.size)
            d = q.clamp_min(0).norm(dim=-1) + q.amax(-1).clamp_max(0)
        case "cylinder":
            u, v = _around(solid, x, y) - a, z.abs() - b
            d = torch.hypot(u.clamp_min(0), v.clamp_min(0)) + torch.maximum(u, v).clamp_max(0)
        case "cone":
            r = _around(solid, x, y)
            side = (r - (a + b) / 2 - (b - a) / 2 * (z / c)) * (2 * c) / ((2 * c) ** 2 + (a - b) ** 2) ** 0.5
            cap = z.abs() - c
            d = torch.hypot(side.clamp_min(0), cap.clamp_min(0)) + torch.maximum(side, cap).clamp_max(0)
        case "torus":
            d = torch.hypot(torch.hypot(x, y) - a, z) - b
        case "capsule":
            d = torch.sqrt(x * x + y * y + (z - z.clamp(-b, b)) ** 2) - a
        case "prism":
            slope = (y.abs() * 2 * c + (z - c) * b) / (b * b + 4 * c * c) ** 0.5
            d = torch.maximum(torch.maximum(slope, -c - z), x.abs() - a)
        case "limb":
            r, z, lean = torch.hypot(x, y), z + c, (a - b) / (2 * c)
            side = (1 - lean * lean) ** 0.5
            along = lean * r * -1 + side * z
            low, high = torch.hypot(r, z) - a, torch.hypot(r, z - 2 * c) - b
            d = torch.where(along < 0, low, torch.where(along > 2 * c * side, high, r * side + z * lean - a))
        case "wedge":
            slope = (x * c + z * a) / math.hypot(a, c)
            d = torch.maximum(torch.maximum(slope, -c - z), torch.maximum(-a - x, y.abs() - b))
        case "star":
            tip = math.pi / 5
            angle = (torch.atan2(y, x) / tip + 1) % 2 - 1
            r, angle = torch.hypot(x, y), angle.abs() * tip
            ex, ey = b * math.cos(tip) - a, b * math.sin(tip)  # an edge, from the outer corner inwards
            flat = ((r * angle.cos() - a) * ey - r * angle.sin() * ex) / math.hypot(ex, ey)
            d = torch.maximum(flat, z.abs() - c)
        case _:
            raise ValueError(f"unknown solid {solid.kind!r}")
    d = d - solid.rounding
    return d if solid.floor is None else torch.maximum(d, solid.floor - z)


def _around(solid: Solid, x: Tensor, y: Tensor) -> Tensor:
    """Distance from the axis: of a solid with sides, that of the nearest one's plane."""
    r = torch.hypot(x, y)
    if not solid.sides:
        return r
    half = math.pi / solid.sides
    angle = (torch.atan2(y, x) + half) % (2 * half) - half
    return r * angle.cos()


def distance(shape: Shape, points: Tensor) -> tuple[Tensor, Tensor]:  # [R, 3] -> [R], [R] int
    """Signed distance to the object in world units (a lower bound), and the number of the nearest solid."""
    if shape.pose:
        points, shrunk = _at_rest(shape.pose, points)
    else:
        shrunk = 1.0
    p = _in_object(shape, points)
    best = solid_distance(shape.solids[0], p)
    nearest = torch.zeros(len(best), dtype=torch.int64, device=best.device)
    for i, solid in enumerate(shape.solids[1:], 1):
        d = solid_distance(solid, p)
        if solid.carve:
            nearest = torch.where(-d > best, i, nearest)
            best = torch.maximum(best, -d)
            continue
        nearest = torch.where(d < best, i, nearest)
        if solid.blend:  # polynomial smooth minimum
            h = (solid.blend - (best - d).abs()).clamp_min(0) / solid.blend
            best = torch.minimum(best, d) - h * h * solid.blend / 4
        else:
            best = torch.minimum(best, d)
    return best * (min(shape.stretch) * shape.scale * shrunk), nearest


def _in_object(shape: Shape, points: Tensor) -> Tensor:
    """Points [R, 3] of the object at rest, in the space of its solids."""
    return (points / shape.scale + points.new_tensor(shape.center)) / points.new_tensor(shape.stretch)


def _at_rest(pose: Pose, points: Tensor) -> tuple[Tensor, float]:
    """Where points [R, 3] of the posed object were at rest, and how much nearer they may be now than then."""
    x, y, z = (points - points.new_tensor([0, 0, pose.ground + pose.lift])).unbind(-1)
    x, y = _turned(x, y, -pose.turn)
    y, z = _turned(y, z, -pose.lean)
    z, x = _turned(z, x, -pose.nod)
    towards_tail = (0.5 - x).clamp(0, 1)
    swing = (1 / 3 + 2 / 3 * towards_tail) * torch.sin(2 * math.pi / WAVE_LENGTH * x + pose.wave_phase)
    y = y - pose.wave * swing
    wide, high = pose.size * pose.squash**-0.5, pose.size * pose.squash
    rest = torch.stack([x / wide, y / wide, z / high + pose.ground], -1)
    return rest, min(wide, high) / (1 + abs(pose.wave) * 2 * math.pi / WAVE_LENGTH)


def _turned(a: Tensor, b: Tensor, angle: float) -> tuple[Tensor, Tensor]:
    return math.cos(angle) * a - math.sin(angle) * b, math.sin(angle) * a + math.cos(angle) * b


def fit_to_sphere(shape: Shape, radius: float) -> Shape:
    """Centres the object's bounding box on the origin and scales its half diagonal to `radius`."""
    axis = torch.linspace(-1.2, 1.2, 40)
    grid = torch.cartesian_prod(axis, axis, axis)
    inside = grid[distance(replace(shape, center=(0, 0, 0), scale=1.0), grid)[0] < 0.03]
    low, high = inside.amin(0), inside.amax(0)
    center = ((low + high) / 2).tolist()
    return replace(
        shape, center=(center[0], center[1], center[2]), scale=radius / float((high - low).norm() / 2)
    )


def trace(
    shape: Shape,
    origins: Tensor,  # [R, 3]
    directions: Tensor,  # [R, 3], unit length
    pixel: float,  # size of a pixel at distance 1
    bound: float = 0.75,  # everything lies within this radius
    steps: int = 40,
) -> tuple[Tensor, Tensor]:  # depth along the ray [R], coverage [R] 0..1
    """Sphere tracing with coverage at silhouettes from each ray's closest approach, in pixels."""
    middle = -(origins * directions).sum(-1)
    half_chord2 = bound**2 - (origins**2).sum(-1) + middle**2
    active = (half_chord2 > 0).nonzero().squeeze(1)
    depth = middle.clone()
    closest = torch.full_like(depth, 1e9)
    t = middle[active] - half_chord2[active].sqrt()
    far = middle[active] + half_chord2[active].sqrt()
    for _ in range(steps):
        d, _ = distance(shape, origins[active] + directions[active] * t[:, None])
        gap = d / (t * pixel)
        nearer = gap < closest[active]
        closest[active] = torch.where(nearer, gap, closest[active])
        depth[active] = torch.where(nearer, t, depth[active])
        t = t + d.clamp_min(0)
        keep = (gap > _HIT_PX) & (t < far)
        active, t, far = active[keep], t[keep], far[keep]
        if not len(active):
            break
    return depth, ((1 - closest) / (1 - _HIT_PX)).clamp(0, 1)


def shade(shape: Shape, points: Tensor) -> Tensor:  # [R, 3] -> sRGB [R, 3]
    """Lambert key light, sky and a touch of ambient occlusion, computed in linear light."""
    step = 2e-3
    offsets = step * points.new_tensor([[1, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]])
    probes = [distance(shape, points + o)[0] for o in offsets]
    normal = torch.nn.functional.normalize(
        sum(o * d[:, None] for o, d in zip(offsets, probes, strict=True)), dim=-1
    )
    color = _albedo(shape, points).pow(2.2)
    light = torch.nn.functional.normalize(points.new_tensor(LIGHT), dim=0)
    key = (normal @ light).clamp_min(0)
    sky = 0.5 + 0.5 * normal[:, 2]
    open_ = (distance(shape, points + 0.08 * normal)[0] / 0.08).clamp(0.25, 1)
    return (color * (0.75 * key + (0.2 + 0.35 * sky) * open_)[:, None]).clamp(0, 1).pow(1 / 2.2)


def _albedo(shape: Shape, points: Tensor) -> Tensor:  # [R, 3] -> sRGB [R, 3]
    nearest = distance(shape, points)[1]
    rest = _in_object(shape, _at_rest(shape.pose, points)[0] if shape.pose else points)
    colors = torch.empty_like(points)
    for color, numbers in _by_color(shape).items():
        chosen = torch.isin(nearest, points.new_tensor(numbers, dtype=torch.int64))
        colors[chosen] = albedo(color, rest[chosen])
    return colors


def _by_color(shape: Shape) -> dict[Color, list[int]]:
    numbers: dict[Color, list[int]] = {}
    for i, solid in enumerate(shape.solids):
        numbers.setdefault(solid.color, []).append(i)
    return numbers


def render(
    shape: Shape,
    cameras: Tensor,  # [V, 4, 4] camera-to-world, looking down -Z
    fov_deg: float,
    size_px: int,
) -> tuple[Tensor, Tensor]:  # straight RGBA [V, 4, H, W] in sRGB, depth along -Z [V, H, W]
    """Renders the object from every camera."""
    pixel = 2 * math.tan(math.radians(fov_deg / 2)) / size_px
    axis = (torch.arange(size_px, device=cameras.device) + 0.5 - size_px / 2) * pixel
    v, u = torch.meshgrid(-axis, axis, indexing="ij")
    local = torch.stack([u, v, -torch.ones_like(u)], -1).reshape(1, -1, 3)
    length = local.norm(dim=-1, keepdim=True)
    directions = (local / length) @ cameras[:, :3, :3].transpose(1, 2)
    origins = cameras[:, None, :3, 3].expand_as(directions)
    depth, coverage = trace(shape, origins.reshape(-1, 3), directions.reshape(-1, 3), pixel)
    hit = (coverage > 0).nonzero().squeeze(1)
    points = origins.reshape(-1, 3)[hit] + directions.reshape(-1, 3)[hit] * depth[hit, None]
    rgba = cameras.new_zeros(len(depth), 4)
    rgba[hit, :3] = shade(shape, points)
    rgba[:, 3] = coverage
    views = len(cameras)
    z = depth.reshape(views, -1) / length[0, :, 0]
    return rgba.reshape(views, size_px, size_px, 4).permute(0, 3, 1, 2), z.reshape(views, size_px, size_px)
