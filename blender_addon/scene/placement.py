"""Where a result stands: at the 3D cursor, on the ground, as large as asked for, beside what is there."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import bpy
import numpy as np
from mathutils import Matrix, Vector

from ..backend.shared.ply import GaussianCloud
from .hierarchy import root_of

CURSOR, MADE, BESIDE = "CURSOR", "MADE", "BESIDE"  # places of results: see assets.import_asset
SIZE_M = 1.0  # of the longest side of a result, unless another is asked for
_BOX = "diorama_box"  # of a root: width, depth and height of its result, in its own space
_GAP = 0.1  # of the longest side: between a result and what it stands beside
_TOUCHING = 1e-3  # of the longest side: what overlaps by less only touches
_STRAY = 0.005  # part of all opacity that may lie beyond each side of a box: floaters
# Times the size of a result: what is larger (a floor, a room, a landscape) it stands in, not beside.
_SURROUNDINGS = 5.0
_SOLID = {"MESH", "CURVE", "SURFACE", "META", "FONT", "CURVES", "POINTCLOUD", "VOLUME", "GREASEPENCIL"}


@dataclass(frozen=True)
class Box:
    """A box along the axes, in metres."""

    low: np.ndarray  # [3]
    high: np.ndarray  # [3]

    @property
    def size(self) -> np.ndarray:  # [3]
        return self.high - self.low

    @property
    def longest(self) -> float:
        return float(self.size.max())

    @property
    def foot(self) -> np.ndarray:  # [3] the middle of its ground
        return np.array([*(self.low + self.high)[:2] / 2, self.low[2]])

    @property
    def corners(self) -> np.ndarray:  # [8, 3]
        return np.array(list(itertools.product(*zip(self.low, self.high, strict=True))))

    def through(self, matrix: Matrix) -> Box:
        """The box around this one after a transform."""
        array = np.array(matrix)
        return around(self.corners @ array[:3, :3].T + array[:3, 3])


def around(points: np.ndarray) -> Box:  # [N, 3]
    """The box around points."""
    return Box(points.min(axis=0), points.max(axis=0))


def box_of_clouds(clouds: Sequence[GaussianCloud]) -> Box:
    """The box around all frames of splats as they are seen: by their opacity and extent, without strays."""
    boxes = [_box_of_cloud(cloud) for cloud in clouds if len(cloud)]
    if not boxes:
        return Box(np.full(3, -0.5), np.full(3, 0.5))
    return Box(
        np.min([each.low for each in boxes], axis=0),
        np.max([each.high for each in boxes], axis=0),
    )


def _box_of_cloud(cloud: GaussianCloud) -> Box:
    w, x, y, z = cloud.quats.T.astype(np.float64)
    rows = (  # of the splats' rotations: their spread along an axis is the length of its row, times the sizes
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    weights = np.maximum(cloud.opacities.astype(np.float64), 1e-6)
    low, high = np.empty(3), np.empty(3)
    for axis, row in enumerate(rows):
        spread = np.linalg.norm(np.stack(row, axis=1) * cloud.scales, axis=1)
        low[axis] = _quantile(cloud.means[:, axis] - spread, weights, _STRAY)
        high[axis] = _quantile(cloud.means[:, axis] + spread, weights, 1 - _STRAY)
    return Box(low, np.maximum(high, low + 1e-6))


def _quantile(values: np.ndarray, weights: np.ndarray, part: float) -> float:  # [N], [N]
    order = np.argsort(values)
    summed = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(summed, part * summed[-1])])


def stand(root: bpy.types.Object, children: Iterable[bpy.types.Object], box: Box, size: float | None) -> None:
    """Put the root of a result at the foot of its box and scale it; what is under it keeps its own numbers.

    Args:
        children: what is parented to the root directly.
        box: around the result, in the space of its children.
        size: what its longest side shall be, in metres; None to leave it as large as it was made.
    """
    for child in children:
        child.parent = root
        child.matrix_parent_inverse = Matrix.Translation(-Vector(box.foot))
    root.scale = (size / box.longest if size else 1.0,) * 3
    root.empty_display_size = 0.3 * float(box.size[:2].max())
    root[_BOX] = [float(side) for side in box.size]


def own_box(root: bpy.types.Object) -> Box | None:
    """The box of a result in the space of its root, which is at its foot; None if it has no size."""
    if _BOX not in root:
        return None
    width, depth, height = root[_BOX]
    return Box(np.array([-width / 2, -depth / 2, 0.0]), np.array([width / 2, depth / 2, height]))


def put_beside(root: bpy.types.Object, layer: bpy.types.ViewLayer, at: Vector, rotation: float = 0.0) -> None:
    """Put a result on its place, or along X to the next one where nothing is that can be seen.

    Args:
        at: where its foot is to be.
        rotation: about Z, in radians.
    """
    root.location, root.rotation_euler = at, (0.0, 0.0, rotation)
    layer.update()  # the boxes of what is there are those of its last evaluation
    box = own_box(root)
    if box:
        mine = box.through(root.matrix_basis)
        root.location.x += way_out(mine, list(_there_already(layer, root, mine.longest)))


def way_out(mine: Box, others: Sequence[Box]) -> float:
    """How far along X a box must be moved to be inside of no other: nothing, if it is free where it is."""
    near = _TOUCHING * mine.longest
    shift = 0.0
    for other in sorted(others, key=lambda each: float(each.low[0])):
        moved = np.array([shift, 0.0, 0.0])
        low, high = mine.low + moved, mine.high + moved
        if ((low < other.high - near) & (high > other.low + near)).all():
            shift = float(other.high[0] - mine.low[0]) + _GAP * mine.longest
    return shift


def _there_already(layer: bpy.types.ViewLayer, but: bpy.types.Object, size: float) -> Iterator[Box]:
    """Boxes of all that can be seen in a layer, each result as one; not what is much larger than a size."""
    for item in layer.objects:
        if not item.visible_get(view_layer=layer):
            continue
        root = root_of(item)
        if root is None:
            box = world_box(item)
        else:  # splats have strays: the box of the whole is the better one
            own = own_box(root) if item.type in _SOLID and root != but else None
            box = own.through(root.matrix_world) if own else None
        if box is not None and box.longest < _SURROUNDINGS * size:
            yield box


def world_box(item: bpy.types.Object) -> Box | None:
    """The box around an object that has a shape, or around the collection that it shows; else None."""
    if item.type in _SOLID:
        corners = np.array(item.bound_box)
        return around(corners).through(item.matrix_world) if np.ptp(corners, axis=0).any() else None
    if item.instance_type != "COLLECTION" or item.instance_collection is None:
        return None
    place = item.matrix_world @ Matrix.Translation(-item.instance_collection.instance_offset)
    inner = [
        around(np.array(each.bound_box)).through(place @ each.matrix_world)
        for each in item.instance_collection.all_objects
        if each.type in _SOLID and not each.hide_viewport
    ]
    if not inner:
        return None
    return around(np.concatenate([[each.low, each.high] for each in inner]))
