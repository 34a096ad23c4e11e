"""An asset folder becomes a collection: splats, mesh, views on their cameras, a camera through them all."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import bpy
import numpy as np

from .. import folders
from ..backend.shared.asset import Asset, read_asset
from ..backend.shared.ply import read_ply
from . import (
    cameras,
    conversion,
    display,
    hierarchy,
    mesh,
    native,
    placement,
    render,
    reveal,
    sequences,
    splats,
    views,
)
from .modifier_inputs import set_inputs
from .transaction import all_or_nothing


def import_asset(
    context: bpy.types.Context,
    directory: Path | str,
    *,
    place: str = placement.CURSOR,
    size: float = placement.SIZE_M,
    location: Sequence[float] | None = None,
    rotation: float = 0.0,
    markers: bool = False,
    frame_range: bool = False,
    report: Callable[[str], None] = print,
) -> bpy.types.Collection:
    """Bring a finished asset into the scene, whole or not at all.

    Args:
        directory: the asset folder.
        place: at the 3D "CURSOR", or beside what is there already; where and as large as it was "MADE"; or
            as large, "BESIDE" what is there. The last two are for what was made of the scene's own objects.
        size: of its longest side, in metres, at the cursor or a location.
        location: where its foot is to be, whatever is there.
        rotation: about Z, in radians; 0 lets its front face Blender's front view.
        markers: bind a timeline marker to every view's camera.
        frame_range: set the scene's frame range to the travelling camera's.
        report: is told what was changed in the scene's settings, and what was left out.

    Returns:
        A collection named after the prompt, linked to the scene. Its empty holds everything.

    Raises:
        DioramaError: E_ASSET or E_PLY; the scene is unchanged.
    """
    asset = read_asset(directory)
    clouds = [read_ply(path) for path in asset.splats]
    scene = context.scene
    with all_or_nothing():
        keeps_size = location is None and place != placement.CURSOR
        collection = _build(asset, clouds, scene.frame_start, None if keeps_size else size)
    scene.collection.children.link(collection)
    changes = render.raise_bounces(scene)
    if asset.mesh and (missing := mesh.importer_missing()):
        changes.append(missing)
    if asset.blending == "display":
        for body in splat_objects(collection):
            collection.objects.unlink(body)
            changes += display.show_in_display_layer(scene, body, collection)
    preferences = folders.get_preferences()
    if preferences and preferences.generated_splats == "NATIVE" and native.is_available():
        for body in splat_objects(collection):
            changes += conversion.to_native(context, body)
    display.hold_out_others(scene)
    last = cameras.orbit_frame(scene.frame_start, len(asset.views) - 1)
    if markers:
        for view, camera in enumerate(view_cameras(collection)):
            marker = scene.timeline_markers.new(
                camera.name, frame=cameras.orbit_frame(scene.frame_start, view)
            )
            marker.camera = camera
    if frame_range and scene.frame_end != last:
        changes.append(f"End Frame {scene.frame_end} → {last}")
        scene.frame_end = last
    if scene.camera is None:
        scene.camera = orbit_camera(collection)
        changes.append(f"Camera none → {scene.camera.name}")
    _show(context, result_root(collection), place, location, rotation)
    for change in changes:
        report(change)
    return collection


def _show(
    context: bpy.types.Context,
    root: bpy.types.Object,
    place: str,
    location: Sequence[float] | None,
    rotation: float,
) -> None:
    """Put a result in its place, select it, and hide what is not asked for."""
    layer = context.view_layer
    (body,) = hierarchy.parts(root, hierarchy.SPLATS)
    made_at = -body.matrix_parent_inverse.translation  # its foot, in its own space
    at = context.scene.cursor.location if place == placement.CURSOR else made_at
    if location is None and place != placement.MADE:
        placement.put_beside(root, layer, at, rotation)
    else:
        root.location = made_at if location is None else location
        root.rotation_euler = (0.0, 0.0, rotation)
    layer.update()  # so that scripts find every matrix_world in its place, of what is hidden too
    hierarchy.show(hierarchy.parts(root, *hierarchy.CAMERAS), visible=False)
    reveal.select(layer, hierarchy.visible_parts(root, layer), body)
    box = placement.own_box(root)
    if box and not bpy.app.background:
        reveal.frame(context.scene, box.through(root.matrix_world))


def result_root(collection: bpy.types.Collection) -> bpy.types.Object:
    """The empty that holds all of an imported collection."""
    return next(item for item in collection.objects if hierarchy.ROOT in item)


def view_cameras(collection: bpy.types.Collection) -> list[bpy.types.Object]:
    """The cameras of the views in an imported collection, in the order of the views."""
    found = [item for item in collection.all_objects if item.type == "CAMERA" and "view" in item]
    return sorted(found, key=lambda item: item["view"])


def orbit_camera(collection: bpy.types.Collection) -> bpy.types.Object:
    """The camera that travels through all views of an imported collection."""
    return next(item for item in collection.all_objects if item.type == "CAMERA" and "view" not in item)


def splat_objects(collection: bpy.types.Collection) -> list[bpy.types.Object]:
    """The splats of an imported collection, of which those with display blending are kept in another one."""
    return hierarchy.parts(result_root(collection), hierarchy.SPLATS)


def _build(
    asset: Asset, clouds: list[splats.GaussianCloud], frame_start: int, size: float | None
) -> bpy.types.Collection:
    name = asset.prompt or Path(asset.request.get("image") or asset.directory).stem
    collection = bpy.data.collections.new(name)
    view_collection = bpy.data.collections.new(f"{name} views")
    collection.children.link(view_collection)

    root = bpy.data.objects.new(name, None)
    hierarchy.mark_root(root)
    body_name = f"{name} splats"
    if len(clouds) == 1:
        body = splats.splat_object(body_name, splats.splat_mesh(body_name, clouds[0]), asset.blending)
    else:
        body = sequences.sequence_object(
            body_name, clouds, asset.blending, frame_start, tracked=asset.tracked, fps=asset.fps
        )
    hierarchy.mark_part(body, hierarchy.SPLATS)
    distance = float(np.linalg.norm(asset.cameras[:, :3, 3], axis=1).mean())
    pixel = 2 * math.tan(math.radians(asset.fov_deg) / 2) / asset.width
    set_inputs(splats.splat_modifier(body), Detail=pixel * distance, Distance=distance)
    poses = cameras.matrices(asset.cameras, asset.front)
    fov_y = cameras.vertical_fov(asset.fov_deg, asset.width, asset.height)
    orbit = cameras.orbit_camera(f"{name} orbit", poses, fov_y, frame_start)
    hierarchy.mark_part(orbit, hierarchy.ORBIT)
    bodies = [body]
    if asset.mesh and not mesh.importer_missing():
        bodies.append(mesh.mesh_object(f"{name} mesh", asset.mesh))
        hierarchy.mark_part(bodies[-1], hierarchy.MESH)
    turn = cameras.turn_to_front(asset.front)
    for item in bodies:
        item.matrix_basis = turn
    seen_from, pictures = [], []
    for view, (pose, files) in enumerate(zip(poses, asset.views, strict=True)):
        camera = cameras.view_camera(f"{name} view {view}", pose, fov_y)
        camera["view"] = view
        hierarchy.mark_part(camera, hierarchy.CAMERA)
        image = views.view_image(f"{name} view {view}", files)
        views.show_behind_camera(camera.data, image, len(files), frame_start, asset.fps)
        picture = views.picture(f"{name} picture {view}", asset, camera, image, frame_start)
        hierarchy.mark_part(picture, hierarchy.IMAGE)
        seen_from.append(camera)
        pictures.append(picture)
    box = placement.box_of_clouds(clouds).through(turn)
    placement.stand(root, (*bodies, orbit, *seen_from), box, size)

    for item, home in (
        *((item, collection) for item in (root, *bodies)),
        *((item, view_collection) for item in (orbit, *seen_from, *pictures)),
    ):
        home.objects.link(item)
    for item in (collection, *collection.all_objects):
        item["prompt"], item["seed"], item["model"] = asset.prompt, asset.seed, asset.model
    return collection
