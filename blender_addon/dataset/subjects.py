"""Which objects of a file are rendered, what they are called, and where their surface is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np

FORMATS = (".blend", ".glb", ".gltf")
_SURFACES = {"MESH", "CURVE", "SURFACE", "META", "FONT"}  # what can be turned into a mesh
_SHAPED = _SURFACES | {"CURVES", "POINTCLOUD", "VOLUME"}
# Nodes besides images that give a surface different colours in different places.
_TEXTURES = {"TEX_BRICK", "TEX_CHECKER", "TEX_GABOR", "TEX_GRADIENT", "TEX_MAGIC", "TEX_NOISE", "TEX_VORONOI",
             "TEX_WAVE", "TEX_WHITE_NOISE", "VERTEX_COLOR", "ATTRIBUTE"}  # fmt: skip
_MOST_POINTS = 20_000


@dataclass(frozen=True)
class Subject:
    """Something to render: one captioned object or collection of a file, or the whole file."""

    name: str
    caption: str
    objects: frozenset[str]  # names of the objects that belong to it


def find_sources(paths: list[Path]) -> list[Path]:
    """The files that can be rendered, folders searched through.

    Raises:
        ValueError: naming a path that holds none.
    """
    found: list[Path] = []
    for path in paths:
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        usable = [file.resolve() for file in inside if file.suffix.lower() in FORMATS and file.is_file()]
        if not usable:
            raise ValueError(f"{path} is not there, or holds none of {', '.join(FORMATS)}")
        found += usable
    return list(dict.fromkeys(found))


def load(path: Path) -> None:
    """Opens a .blend, or imports a glTF file into an empty scene. Scripts inside the file are not run."""
    if path.suffix.lower() == ".blend":
        bpy.ops.wm.open_mainfile(filepath=str(path), load_ui=False, use_scripts=False)
        return
    bpy.ops.wm.read_homefile(use_empty=True)
    bpy.ops.import_scene.gltf(filepath=str(path))
    ranges = [action.frame_range for action in bpy.data.actions]
    scene = bpy.context.scene
    scene.frame_start = scene.frame_end = 1
    if ranges:  # an empty scene's 250 frames say nothing about the file
        scene.frame_start = int(min(begin for begin, _ in ranges))
        scene.frame_end = max(scene.frame_start, round(max(end for _, end in ranges)))
    scene.frame_set(scene.frame_start)


def subjects(stem: str) -> list[Subject]:
    """Every collection and object with the custom property `caption`; without any, all of the scene.

    Args:
        stem: the file's name without its ending: the caption and the name of a whole scene.
    """
    everything = bpy.context.scene.objects
    found = []
    for collection in bpy.context.scene.collection.children_recursive:
        if caption := collection.get("caption"):
            names = frozenset(item.name for item in collection.all_objects)
            found.append(Subject(collection.name, str(caption), names))
    for item in everything:
        if caption := item.get("caption"):
            names = frozenset(part.name for part in (item, *item.children_recursive))
            found.append(Subject(item.name, str(caption), names))
    if not found:
        caption = re.sub(r"[\s_.-]+", " ", stem).strip()
        found.append(Subject(stem, caption, frozenset(item.name for item in everything)))
    return found


def show_only(subject: Subject) -> None:
    """Hides all other objects from the render; lights and cameras stay as they are."""
    for item in bpy.context.scene.objects:
        if item.name not in subject.objects and item.type not in ("LIGHT", "LIGHT_PROBE", "CAMERA"):
            item.hide_render = True


def points(subject: Subject) -> np.ndarray:  # [N, 3]
    """Points of its surface in the current frame, metres; empty if nothing of it is visible."""
    found = [np.empty((0, 3))]
    for instance in _visible(subject):
        item = instance.object
        local = _vertices(item) if item.type in _SURFACES else np.array(item.bound_box)
        matrix = np.array(instance.matrix_world)
        found.append(local @ matrix[:3, :3].T + matrix[:3, 3])
    every = np.concatenate(found)
    if len(every) <= _MOST_POINTS:
        return every
    chosen = np.random.default_rng(0).choice(len(every), _MOST_POINTS, replace=False)
    extremes = [*every.argmin(0), *every.argmax(0)]  # so that the bounding box stays exact
    return every[[*chosen, *extremes]]


def textured(subject: Subject) -> bool:
    """Whether anything visible of it has a material with a texture.

    Image textures count, procedural ones, and colours that are painted on vertices, if something is linked to
    them, in groups of nodes too: all that makes a surface more than a few plain colours.
    """
    materials = set()
    for instance in _visible(subject):
        item = instance.object
        materials |= {slot.material for slot in item.material_slots}
        materials |= set(getattr(item.data, "materials", ()))  # what geometry nodes have set
    return any(material and material.node_tree and _has_texture(material.node_tree) for material in materials)


def _has_texture(tree: bpy.types.NodeTree) -> bool:
    for node in tree.nodes:
        if not any(output.is_linked for output in node.outputs):
            continue
        if node.type == "TEX_IMAGE":
            if node.image:
                return True
        elif node.type in _TEXTURES or (
            node.type == "GROUP" and node.node_tree and _has_texture(node.node_tree)
        ):
            return True
    return False


def rendered(collection: bpy.types.Collection) -> set[str]:
    """Names of the objects in a collection that neither they nor a collection hide from the render."""
    if collection.hide_render:
        return set()
    own = {item.name for item in collection.objects if not item.hide_render}
    return own.union(*map(rendered, collection.children))


def _visible(subject: Subject) -> Iterator[bpy.types.DepsgraphObjectInstance]:
    """All that is rendered of it, in the current frame; each is valid until the next."""
    shown = subject.objects & rendered(bpy.context.scene.collection)
    for instance in bpy.context.evaluated_depsgraph_get().object_instances:
        item = instance.object
        owner = (instance.parent if instance.is_instance else item).original
        if owner.name not in shown or not instance.show_self:
            continue
        if item.type in _SHAPED and not item.original.hide_render:
            yield instance


def _vertices(item: bpy.types.Object) -> np.ndarray:  # [N, 3]
    mesh = item.to_mesh()
    if mesh is None:
        return np.empty((0, 3))
    flat = np.empty(3 * len(mesh.vertices), np.float32)
    mesh.vertices.foreach_get("co", flat)
    item.to_mesh_clear()
    return flat.reshape(-1, 3).astype(np.float64)
