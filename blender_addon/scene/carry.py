"""Keeps the shapes of splats with their places, whatever tool of Blender has moved these.

Blender's tools (Apply, Join, Edit Mode, Sculpt Mode, scripts) move vertices and know nothing of the rotation,
size and harmonics beside them. So every mesh also holds where its splats were when their shapes were last
right. Where that differs from where they are, the map between the two is found, and shapes and harmonics
follow by it: after every change in Blender, when a file is loaded, and before splats are exported. Files and
farms need no add-on: what they show has been set right.

Modifiers and shape keys move splats only while they are there. What they leave is exported with its shapes;
shown, the shapes stay as they are until the modifier is applied, and the panel says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import bpy
import numpy as np
from bpy.app.handlers import persistent

from ..backend.shared.ply import GaussianCloud
from . import affine, splats
from .splats import PLACE

_NEAR = 2e-5  # of the extent: closer than this, two places are the same
_NEIGHBOURS = 12
_SEEDS = 12
_MOST_PIECES = 64
_MOST_BLOCKS = 1000  # with which a million splats take a second or two
_MISSED = 0.5  # of how differently neighbours have moved: 0.87 where they have nothing in common

_MOST_MATRICES = 8

# Modifiers that move vertices, and with them splats, but none of their attributes.
_MOVING = {
    *("ARMATURE", "ARRAY", "CAST", "CLOTH", "CORRECTIVE_SMOOTH", "CURVE", "DISPLACE", "HOOK"),
    *("LAPLACIANDEFORM", "LAPLACIANSMOOTH", "LATTICE", "MESH_CACHE", "MESH_DEFORM", "MESH_SEQUENCE_CACHE"),
    *("MIRROR", "SHRINKWRAP", "SIMPLE_DEFORM", "SMOOTH", "SOFT_BODY", "SURFACE_DEFORM", "WARP", "WAVE"),
}

# Of objects: their last matrices in the world, the newest first, and the number of splats. Several, since
# a step of undo may go back to before the shapes have followed.
_Known = dict[int, tuple[list[np.ndarray], int]]
_known: _Known = {}


def carry(mesh: bpy.types.Mesh, likely: Sequence[tuple[np.ndarray, int]] = ()) -> bool:
    """Let shapes and harmonics follow what the vertices of a mesh have done; says whether anything changed.

    Args:
        likely: maps [4, 4] that may have been it, and how many splats each would have moved.
    """
    if mesh.library or mesh.is_editmode:
        return False
    places = splats.positions(mesh)
    if not splats.has_attribute(mesh, PLACE, "FLOAT_VECTOR"):  # of before
        _remember(mesh, places)
        return False
    before = splats.values(mesh, PLACE, 3)
    away = np.abs(places - before).max(axis=1)
    extent = max(float(np.abs(places).max(initial=0)), float(np.abs(before).max(initial=0)))
    near = max(_NEAR * extent, 1e-12)
    moved = away > near
    if not moved.any():
        return False
    source, target = before.astype(np.float64), places.astype(np.float64)
    pieces = _pieces(source, target, moved, near, likely)
    turned = [(m[:3, :3], chosen) for m, chosen in pieces if not np.allclose(m[:3, :3], np.eye(3), atol=1e-5)]
    if turned:
        splats.transform_shapes(mesh, turned)
    _remember(mesh, places)
    mesh.update_tag()
    return True


def _remember(mesh: bpy.types.Mesh, places: np.ndarray) -> None:
    attribute = mesh.attributes.get(PLACE)
    if attribute and not splats.has_attribute(mesh, PLACE, "FLOAT_VECTOR"):
        mesh.attributes.remove(attribute)
        attribute = None
    attribute = attribute or mesh.attributes.new(PLACE, "FLOAT_VECTOR", "POINT")
    attribute.data.foreach_set("vector", np.ascontiguousarray(places, np.float32).ravel())


def _pieces(
    source: np.ndarray,  # [N, 3]
    target: np.ndarray,  # [N, 3]
    moved: np.ndarray,  # [N] bool
    near: float,
    likely: Sequence[tuple[np.ndarray, int]],
) -> list[tuple[np.ndarray, np.ndarray]]:  # [4, 4], and which splats it has moved
    """The maps that have moved the splats: one for each object that was joined, or part that was edited, and
    for each small neighbourhood of what was bent."""

    def follows(matrix: np.ndarray, index: np.ndarray) -> np.ndarray:
        there = source[index] @ matrix[:3, :3].T + matrix[:3, 3]
        return index[np.abs(there - target[index]).max(axis=1) <= 4 * near]

    everything = np.arange(len(source))
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for matrix, _ in likely:
        if len(follows(matrix, everything)) == len(
            source
        ):  # Apply: even of a single splat, even in its middle
            return [(matrix, everything)]
    left = np.flatnonzero(moved)
    while len(left) and len(found) < _MOST_PIECES:
        best, matrix = left[:0], np.eye(4)
        for candidate, count in likely:
            same = follows(candidate, left)
            if len(same) > len(best) and len(same) >= min(count, _NEIGHBOURS):
                best, matrix = same, candidate
        if not len(best):
            best, matrix = _best_fit(source, target, left, follows)
        if not len(best):
            break
        # What stands in the map's fixed point has not moved, but has turned, if it is among the others.
        with_still = follows(matrix, everything)
        if len(with_still) < len(source):
            with_still = with_still[(with_still >= best.min()) & (with_still <= best.max())]
            with_still = with_still[~moved[with_still] | np.isin(with_still, best)]
        found.append((matrix, with_still))
        left = np.setdiff1d(left, best, assume_unique=True)
    return [*found, *_bent(source, target, left)]


def _bent(
    source: np.ndarray, target: np.ndarray, left: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The maps of small neighbourhoods, where a tool has bent splats, as proportional editing does.

    Splats that have moved with no regard to their neighbours keep their shapes.
    """
    least = max(_NEIGHBOURS, len(left) // _MOST_BLOCKS)
    blocks = [left]
    while blocks:
        block = blocks.pop()
        half = len(block) // 2
        if half >= least:
            longest = np.ptp(source[block], axis=0).argmax()
            block = block[np.argpartition(source[block, longest], half)]
            blocks += [block[:half], block[half:]]
        elif len(block) >= _NEIGHBOURS:
            matrix = affine.fit(source[block], target[block])
            away = target[block] - source[block]
            missed = source[block] @ matrix[:3, :3].T + matrix[:3, 3] - target[block]
            if np.linalg.norm(missed) <= _MISSED * np.linalg.norm(away - away.mean(axis=0)):
                yield matrix, block


def _best_fit(
    source: np.ndarray, target: np.ndarray, left: np.ndarray, follows: Any
) -> tuple[np.ndarray, np.ndarray]:
    """The map that most of the moved splats follow, tried from neighbours in number and in place."""
    best = left[:0]
    both = np.concatenate([source[left], target[left]], axis=1)
    for seed in np.unique(np.linspace(0, len(left) - 1, _SEEDS).astype(int)):
        begin = min(max(seed - _NEIGHBOURS // 2, 0), max(len(left) - _NEIGHBOURS, 0))
        count = min(_NEIGHBOURS, len(left))
        nearest = np.argpartition(np.abs(both - both[seed]).max(axis=1), count - 1)[:count]
        for some in (left[begin : begin + count], left[nearest]):
            candidate = affine.fit(source[some], target[some])
            same = follows(candidate, left)
            if len(same) > len(best):
                best = same
        if len(best) == len(left):
            break
    if len(best) < min(4, len(left)):
        return left[:0], np.eye(4)
    return best, affine.fit(source[best], target[best])


def sync(body: bpy.types.Object) -> None:
    """Set the splats of an object right, if a tool has moved them."""
    if not splats.is_splats(body):
        return
    now = np.array(body.matrix_world)
    if not np.isfinite(now).all():
        return  # a broken driver or script: nothing can be told of it
    back = np.linalg.pinv(now)
    living = {item.session_uid for item in bpy.data.objects if item.type == "MESH"}
    own = _known.get(body.session_uid)
    matrices = own[0] if own else []
    likely = [(back @ matrix, own[1]) for matrix in matrices] if own else []
    likely += [(back @ gone[0], count) for uid, (gone, count) in _known.items() if uid not in living]
    carry(body.data, likely)
    others = [matrix for matrix in matrices if not np.array_equal(matrix, now)]
    _known[body.session_uid] = ([now, *others][:_MOST_MATRICES], len(body.data.vertices))


def carried(body: bpy.types.Object) -> GaussianCloud:
    """The splats of an object as they are now, in whatever mode it is, and as its modifiers move them.

    Raises:
        DioramaError: E_PLY if the object is not a splat object.
    """
    if body.mode == "EDIT":
        body.update_from_editmode()
        mesh = body.data.copy()  # attributes cannot be read in Edit Mode
    else:
        sync(body)
        if not moved_by(body):
            return splats.splats_of(body)
        mesh = _as_moved(body)
    try:
        carry(mesh)
        return splats.cloud_in(mesh)
    finally:
        bpy.data.meshes.remove(mesh)


def moved_by(body: bpy.types.Object) -> list[str]:
    """The names of what moves the splats of an object without their shapes: modifiers, and shape keys."""
    names = [each.name for each in body.modifiers if each.type in _MOVING and each.show_viewport]
    keys = body.data.shape_keys
    if keys and any(key.value and not key.mute for key in keys.key_blocks[1:]):
        names.append("Shape Keys")
    return names


def _as_moved(body: bpy.types.Object) -> bpy.types.Mesh:
    """A new mesh of the splats as modifiers and shape keys leave them, without what shows them."""
    shows = [each for each in body.modifiers if each.type == "NODES" and each.show_viewport]
    try:
        for modifier in shows:
            modifier.show_viewport = False
        depsgraph = bpy.context.evaluated_depsgraph_get()
        depsgraph.update()
        evaluated = body.evaluated_get(depsgraph)
        return bpy.data.meshes.new_from_object(evaluated, preserve_all_data_layers=True, depsgraph=depsgraph)
    finally:
        for modifier in shows:
            modifier.show_viewport = True


@persistent
def _on_change(_scene: bpy.types.Scene, depsgraph: bpy.types.Depsgraph) -> None:
    changed = [
        update.id.original
        for update in depsgraph.updates
        if isinstance(update.id, bpy.types.Object)
        and (update.is_updated_geometry or update.is_updated_transform)
    ]
    bodies = [item for item in changed if splats.is_splats(item) and item.mode != "EDIT"]
    for body in bodies:
        sync(body)
    if bodies:
        living = {item.session_uid for item in bpy.data.objects if item.type == "MESH"}
        for uid in _known.keys() - living:
            del _known[uid]


@persistent
def _on_load(*_: Any) -> None:
    _known.clear()
    for body in bpy.data.objects:
        if body.mode != "EDIT":
            sync(body)


def register() -> None:
    """Looks after every change from now on."""
    bpy.app.handlers.depsgraph_update_post.append(_on_change)
    bpy.app.handlers.load_post.append(_on_load)


def unregister() -> None:
    bpy.app.handlers.load_post.remove(_on_load)
    bpy.app.handlers.depsgraph_update_post.remove(_on_change)
