"""An asset folder becomes a collection: splats, mesh, views on their cameras, a camera through them all."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import bpy
import numpy as np

from .. import folders
from ..backend.shared.asset import Asset, read_asset
from ..backend.shared.ply import read_ply
from . import cameras, conversion, display, mesh, native, render, sequences, splats, views
from .modifier_inputs import set_inputs
from .transaction import all_or_nothing

_GAP = 1.2  # times its width: from the middle of what it was made of to that of what stands beside


def import_asset(
    context: bpy.types.Context,
    directory: Path | str,
    *,
    beside: bool = False,
    markers: bool = False,
    frame_range: bool = False,
    report: Callable[[str], None] = print,
) -> bpy.types.Collection:
    """Bring a finished asset into the scene, whole or not at all.

    Args:
        directory: the asset folder.
        beside: not where it was made, but next to that, along X.
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
        collection = _build(asset, clouds, scene.frame_start)
    scene.collection.children.link(collection)
    if beside:
        _stand_beside(collection, clouds)
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
    context.view_layer.update()  # so that scripts find every matrix_world in its place
    for change in changes:
        report(change)
    return collection


def view_cameras(collection: bpy.types.Collection) -> list[bpy.types.Object]:
    """The cameras of the views in an imported collection, in the order of the views."""
    found = [item for item in collection.all_objects if item.type == "CAMERA" and "view" in item]
    return sorted(found, key=lambda item: item["view"])


def orbit_camera(collection: bpy.types.Collection) -> bpy.types.Object:
    """The camera that travels through all views of an imported collection."""
    return next(item for item in collection.all_objects if item.type == "CAMERA" and "view" not in item)


def splat_objects(collection: bpy.types.Collection) -> list[bpy.types.Object]:
    """The splats of an imported collection, of which those with display blending are kept in another one."""
    roots = [item for item in collection.objects if item.parent is None]
    children = [child for root in roots for child in root.children]
    return [child for child in children if splats.is_splats(child) or native.is_native(child)]


def _stand_beside(collection: bpy.types.Collection, clouds: list[splats.GaussianCloud]) -> None:
    """Moves a collection along X, by how far its splats reach in all frames, but for a few that float."""
    low, high = np.quantile(np.concatenate([cloud.means[:, 0] for cloud in clouds]), [0.005, 0.995])
    for item in collection.objects:
        if item.parent is None:
            item.location.x += _GAP * float(high - low)


def _build(asset: Asset, clouds: list[splats.GaussianCloud], frame_start: int) -> bpy.types.Collection:
    name = asset.prompt or Path(asset.request.get("image") or asset.directory).stem
    collection = bpy.data.collections.new(name)
    view_collection = bpy.data.collections.new(f"{name} views")
    collection.children.link(view_collection)

    root = bpy.data.objects.new(name, None)
    root.empty_display_size = 0.25
    body_name = f"{name} splats"
    if len(clouds) == 1:
        body = splats.splat_object(body_name, splats.splat_mesh(body_name, clouds[0]), asset.blending)
    else:
        # one cloud per frame of the scene, whatever the asset's speed, as the views play
        body = sequences.sequence_object(
            body_name, clouds, asset.blending, frame_start, tracked=asset.tracked
        )
        body["fps"] = asset.fps
    distance = float(np.linalg.norm(asset.cameras[:, :3, 3], axis=1).mean())
    pixel = 2 * math.tan(math.radians(asset.fov_deg) / 2) / asset.width
    set_inputs(splats.splat_modifier(body), Detail=pixel * distance, Distance=distance)
    poses = cameras.matrices(asset.cameras, asset.front)
    fov_y = cameras.vertical_fov(asset.fov_deg, asset.width, asset.height)
    orbit = cameras.orbit_camera(f"{name} orbit", poses, fov_y, frame_start)
    bodies = [body]
    if asset.mesh and not mesh.importer_missing():
        bodies.append(mesh.mesh_object(f"{name} mesh", asset.mesh))
    for item in bodies:
        item.matrix_basis = cameras.turn_to_front(asset.front)
        item.parent = root
    pictures = []
    for view, (pose, files) in enumerate(zip(poses, asset.views, strict=True)):
        camera = cameras.view_camera(f"{name} view {view}", pose, fov_y)
        camera["view"] = view
        camera.parent = root
        image = views.view_image(f"{name} view {view}", files)
        views.show_behind_camera(camera.data, image, len(files), frame_start)
        pictures += [camera, views.picture(f"{name} picture {view}", asset, camera, image, frame_start)]
    orbit.parent = root

    for item, home in (
        *((item, collection) for item in (root, *bodies, orbit)),
        *((item, view_collection) for item in pictures),
    ):
        home.objects.link(item)
    for item in (collection, *collection.all_objects):
        item["prompt"], item["seed"], item["model"] = asset.prompt, asset.seed, asset.model
    return collection
